//! What the leasequery codec writes, read by codecs of others: dhcproto option by option, and
//! tshark as DHCPv6 Bulk Leasequery. Both know less than we write: dhcproto carries the options of
//! RFC 5007 as bytes; tshark 4.0 takes types 22 and 23 and frames without options for errors, cuts
//! the transaction-id into 8 and 16 bits, and does not open LQ_RELAY_DATA.

use std::io::Write;
use std::net::Ipv6Addr;
use std::process::{Command, Stdio};

use dhcproto::v6::{DhcpOption, DhcpOptions, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use proptest::collection::vec;
use proptest::prelude::*;
use relay_core::time::LqTime;
use relay_core::types::{IaType, Iaid, Prefix, Xid};
use relay_core::wire::iana;
use relay_core::wire::leasequery::{
    Answers, BulkQuery, ClientDataOut, LqIa, LqLease, LqQuery, QueryBy, RelayDataOut, RelayHop,
    Status,
};
use relay_core::wire::options::Options;

const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb2];
const CLIENT: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xc3];
const RELAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xb);
const LINK: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// LEASEQUERY-REPLY that tells of `leases`, also inside their IAs, framed.
fn reply(leases: &[LqLease], status: Option<Status<'_>>) -> Vec<u8> {
    let answers = Answers {
        xid: Xid(0x0001_0203),
        server_id: SERVER,
        client_id: SERVER,
        requested: [3, 4, 25, 47, 100].into_iter().collect(),
    };
    let client = ClientDataOut {
        duid: CLIENT,
        clt_secs: 5,
        leases,
        relay_data: Some(RelayDataOut {
            peer_address: RELAY,
            hop: RelayHop {
                link_address: LINK,
                peer_address: RELAY,
                interface_id: Some(b"ge-0"),
                mac: None,
                remote_id: None,
                subscriber_id: None,
                relay_id: None,
            },
            client_behind: None,
        }),
    };
    let mut frame = Vec::new();
    let now = LqTime(0x3000_0000);
    let written = answers.write_reply(&mut frame, now, status, Some(&client));
    assert_eq!(written, Ok(1));
    frame
}

fn lease(ia_type: IaType, n: u32, bits: u8, preferred_secs: u32, valid_secs: u32) -> LqLease {
    let is_address = ia_type != IaType::Pd;
    let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n) << 64);
    let timer = |secs| if ia_type == IaType::Ta { 0 } else { secs };
    LqLease {
        ia: Some(LqIa {
            ia_type,
            iaid: Iaid(n),
            t1_secs: timer(preferred_secs / 2),
            t2_secs: timer(preferred_secs),
        }),
        prefix: Prefix::new(address, if is_address { 128 } else { bits })
            .expect("at most 128 bits"),
        is_address,
        preferred_secs,
        valid_secs,
    }
}

/// dhcproto sorts options by code, and drops what it cannot read: reading and writing again has to
/// give the same options, sorted.
fn check_options(bytes: &[u8]) -> DhcpOptions {
    let read = DhcpOptions::decode(&mut Decoder::new(bytes)).expect("sound to dhcproto");
    let ours: Result<Vec<_>, _> = Options::new(bytes).collect();
    let mut ours = ours.expect("sound to us");
    ours.sort_by_key(|option| option.code);
    let mut sorted = Vec::new();
    for option in ours {
        sorted.extend(option.code.to_be_bytes());
        let len = u16::try_from(option.data.len()).expect("it came out of an option");
        sorted.extend(len.to_be_bytes());
        sorted.extend(option.data);
    }
    assert_eq!(read.to_vec().expect("it was read"), sorted);
    read
}

/// The leases in `options`, those of `ia` if they are inside one.
fn leases_of(options: &DhcpOptions, ia: Option<LqIa>) -> Vec<LqLease> {
    let ia_of = |ia_type, iaid, t1_secs, t2_secs| LqIa {
        ia_type,
        iaid: Iaid(iaid),
        t1_secs,
        t2_secs,
    };
    let found = options.iter().map(|option| match option {
        DhcpOption::IAAddr(it) => vec![LqLease {
            ia,
            prefix: Prefix::host(it.addr),
            is_address: true,
            preferred_secs: it.preferred_life,
            valid_secs: it.valid_life,
        }],
        DhcpOption::IAPrefix(it) => vec![LqLease {
            ia,
            prefix: Prefix::new(it.prefix_ip, it.prefix_len).expect("at most 128 bits"),
            is_address: false,
            preferred_secs: it.preferred_lifetime,
            valid_secs: it.valid_lifetime,
        }],
        DhcpOption::IANA(it) => leases_of(&it.opts, Some(ia_of(IaType::Na, it.id, it.t1, it.t2))),
        DhcpOption::IATA(it) => leases_of(&it.opts, Some(ia_of(IaType::Ta, it.id, 0, 0))),
        DhcpOption::IAPD(it) => leases_of(&it.opts, Some(ia_of(IaType::Pd, it.id, it.t1, it.t2))),
        _ => Vec::new(),
    });
    found.flatten().collect()
}

fn data(options: &DhcpOptions, code: u16) -> Vec<u8> {
    match options.get(OptionCode::from(code)) {
        Some(DhcpOption::Unknown(it)) => it.data().to_vec(),
        other => panic!("option {code} is {other:?}"),
    }
}

fn any_lease() -> impl Strategy<Value = LqLease> {
    let kind = prop_oneof![Just(IaType::Na), Just(IaType::Ta), Just(IaType::Pd)];
    (kind, any::<u32>(), 1u8..=64, any::<(u32, u32)>())
        .prop_map(|(kind, n, bits, (a, b))| lease(kind, n, bits, a.min(b), a.max(b)))
}

proptest! {
    #[test]
    fn reply_reads_the_same_in_dhcproto(
        leases in vec(any_lease(), 1..6),
        code in 0u16..16,
        text in "[a-z\u{e4} ]{0,20}",
    ) {
        let frame = reply(&leases, Some(Status { code, text: &text }));

        let message = dhcproto::v6::Message::decode(&mut Decoder::new(&frame[2..])).unwrap();
        prop_assert_eq!(u8::from(message.msg_type()), iana::LEASEQUERY_REPLY);
        prop_assert_eq!(message.xid(), [1, 2, 3]);
        let options = check_options(&frame[6..]);
        prop_assert_eq!(&options, message.opts());
        let Some(DhcpOption::StatusCode(status)) = options.get(OptionCode::StatusCode) else {
            panic!("no status");
        };
        prop_assert_eq!((u16::from(status.status), &status.msg), (code, &text));
        // The name in our table is the name in theirs.
        prop_assert_eq!(format!("{:?}", status.status), iana::status_name(code));
        prop_assert_eq!(data(&options, 100), [0x30, 0, 0, 0]);

        let inside = check_options(&data(&options, 45));
        prop_assert_eq!(data(&inside, 46), [0, 0, 0, 5]);
        let sorted = |mut leases: Vec<LqLease>| {
            leases.sort_by_key(|it| (it.prefix, it.valid_secs, it.preferred_secs));
            leases
        };
        let (bare, of_ia): (Vec<_>, Vec<_>) =
            leases_of(&inside, None).into_iter().partition(|it| it.ia.is_none());
        let with_ia = sorted(leases.clone());
        prop_assert_eq!(&sorted(of_ia), &with_ia);
        let without = with_ia.into_iter().map(|it| LqLease { ia: None, ..it });
        prop_assert_eq!(sorted(bare), without.collect::<Vec<_>>());
    }
}

/// What tshark shows for one field in each frame, repeated values joined with commas.
fn tshark(frames: &[Vec<u8>], fields: &[&str]) -> Option<Vec<Vec<String>>> {
    let mut text2pcap = Command::new("text2pcap");
    text2pcap.args([
        "-q",
        "-6",
        "2001:db8::1,2001:db8::2",
        "-T",
        "40000,547",
        "-",
        "-",
    ]);
    let dump: String = frames.iter().map(|frame| hexdump(frame)).collect();
    let pcap = run(text2pcap, dump.as_bytes())?;
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", "-", "-T", "fields"]);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    let shown = String::from_utf8(run(tshark, &pcap)?).expect("tshark writes text");
    let split = |line: &str| line.split('\t').map(str::to_owned).collect();
    Some(shown.lines().map(split).collect())
}

/// What a program writes about `input`; nothing where it is not installed.
fn run(mut command: Command, input: &[u8]) -> Option<Vec<u8>> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        spawned => spawned.expect("a program that is there starts"),
    };
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input).expect("it reads all of its input");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command:?} failed");
    Some(output.stdout)
}

/// One packet in the form that text2pcap takes.
fn hexdump(frame: &[u8]) -> String {
    let octets: String = frame.iter().map(|octet| format!(" {octet:02x}")).collect();
    format!("000000{octets}\n\n")
}

fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
    if let Some(path) = std::env::var_os("TWINRELAY_SKIPPED_FILE") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        let written = file.and_then(|mut file| writeln!(file, "leasequery_peers: {reason}"));
        written.expect("the runner's file takes a line");
    }
}

#[test]
fn answers_and_queries_read_the_same_in_tshark() {
    let leases = [
        lease(IaType::Pd, 0x100, 56, 3600, 7200),
        lease(IaType::Na, 2, 128, 1800, 2000),
    ];
    let status = Status {
        code: iana::STATUS_QUERY_TERMINATED,
        text: "later",
    };
    let mut query = Vec::new();
    let by_link = BulkQuery {
        client_id: SERVER,
        server_id: None,
        lq_query: LqQuery {
            link_address: LINK,
            by: QueryBy::LinkAddress,
        },
        requested: &[100, 47],
        start_time: Some(LqTime(1)),
        end_time: Some(LqTime(2)),
    };
    by_link.write(&mut query, Xid(0x0001_0203)).unwrap();
    let frames = [reply(&leases, Some(status)), query];

    let shown = tshark(
        &frames,
        &[
            "_ws.malformed",
            "dhcpv6.bulk_leasequery.msgtype",
            "dhcpv6.bulk_leasequery.reserved",
            "dhcpv6.bulk_leasequery.trans_id",
            "dhcpv6.option.type",
            "dhcpv6.status_code",
            "dhcpv6.status_msg",
            "dhcpv6.iaprefix.pref_addr",
            "dhcpv6.iaprefix.pref_len",
            "dhcpv6.iaprefix.pref_lifetime",
            "dhcpv6.iaprefix.valid_lifetime",
            "dhcpv6.iaaddr.ip",
            "dhcpv6.iaaddr.pref_lifetime",
            "dhcpv6.iaaddr.valid_lifetime",
            "dhcpv6.iaid",
            "dhcpv6.iaid.t1",
            "dhcpv6.lq_relay_data_peer_addr",
            "dhcpv6.lq_query",
            "dhcpv6.lq_query_link_address",
        ],
    );

    let Some(shown) = shown else {
        return skip("no tshark with text2pcap");
    };
    let [reply, query] = [0, 1].map(|at: usize| shown[at].iter().map(String::as_str));
    // Each lease comes bare and inside its IA.
    let expected = [
        "",
        "15",
        "1",
        "515",
        "2,1,13,45,1,26,5,25,26,3,5,46,47,100",
        "11",
        "later",
        "2001:db8:0:100::,2001:db8:0:100::",
        "56,56",
        "3600,3600",
        "7200,7200",
        "2001:db8:0:2::,2001:db8:0:2::",
        "1800,1800",
        "2000,2000",
        "00000100,00000002",
        "1800,900",
        "2001:db8:ffff::b",
        "",
        "",
    ];
    assert_eq!(reply.collect::<Vec<_>>(), expected);
    let expected = [
        "",
        "14",
        "1",
        "515",
        "1,44,6,6,101,102",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "4",
        "2001:db8:1::1",
    ];
    assert_eq!(query.collect::<Vec<_>>(), expected);
}
