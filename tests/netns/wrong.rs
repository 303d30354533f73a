//! The world of a peer that does wrong: r1 with an honest twin over TLS, and two more peers that a test plays
//! itself, one in clear text, one over TLS. Decides what it means that nothing suffers from what they do.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relay_tests::alq_peer::frames::framed;
use relay_tests::alq_peer::{Peer, Received};
use relay_tests::asked::base_time;
use relay_tests::messages::{Message, ip, option, read_options};
use serde_json::Value;
use xtask::lab::{Lab, Lifetimes, wait_for};

use crate::hand::{HandClient, on_node};
use crate::harness::{listed_on, shown_on};
use crate::pair::{
    BOTH, PATIENCE, R1, R2, address, digest, expect_active, expect_same, logs, prepared,
};

/// The peer in clear text: it lives on s2, at the address of that.
pub(crate) const ODD: &str = "odd";
/// The peer over TLS: on s1.
pub(crate) const VEILED: &str = "veiled";
/// DUID of both.
pub(crate) const ODD_DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0x0d];
/// Of a client that only they know.
pub(crate) const THEIR_CLIENT: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xc9];
const PORT: u16 = 547;
/// Shorter than any network needs, so that a test sees their end. What is sent once a second keeps the honest up.
const TIMEOUTS: &str = "allow_insecure = true
idle_timeout = 1
receive_timeout = 3
send_timeout = 2
max_connections = 12
";
const PEERS: &str = "
[[active_leasequery.peer]]
name = \"odd\"
address = \"2001:db8:c::12\"
tls = \"off\"

[[active_leasequery.peer]]
name = \"veiled\"
address = \"2001:db8:c::11\"
";
/// 2000-01-01 in Unix time: base-times count from there.
const EPOCH_SECS: u64 = 946_684_800;

/// Now, as base-times have it.
pub(crate) fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let secs = since.expect("after 1970").as_secs() - EPOCH_SECS;
    u32::try_from(secs).expect("before 2136")
}

pub(crate) struct World {
    pub(crate) lab: Lab,
    client: HandClient,
    honest: [u64; 2],
    pid: Option<u32>,
}

/// The node that plays a peer.
fn node_of(peer: &str) -> (&'static str, &'static str) {
    match peer {
        ODD => ("s2", "2001:db8:c::12"),
        _ => ("s1", "2001:db8:c::11"),
    }
}

impl World {
    /// r1 and r2 are in sync and hold the leases of one client; nobody plays the others yet.
    pub(crate) fn up() -> Option<Self> {
        let mut lab = prepared(Lifetimes::default(), TIMEOUTS)?;
        let file = lab.configuration_file(R1);
        let text = std::fs::read_to_string(&file).expect("it is there");
        // r1 is not to wait for peers that are not there.
        let text = format!("[relay]\nready_timeout = 1\n{text}{PEERS}");
        std::fs::write(file, text).expect("it is writable");
        for node in BOTH {
            lab.start_twinrelay_on(node).expect("the daemon starts");
        }
        expect_active(&lab);
        let mut client = HandClient::on(&lab, "gen", "eth0");
        client.lease(1);
        expect_same(&lab, 2);
        let honest = sessions_begun(&lab);
        let pid = lab.pid("r1.twinrelay");
        Some(Self {
            lab,
            client,
            honest,
            pid,
        })
    }

    /// The row of a peer in `show active-leasequery neighbors`.
    pub(crate) fn row(&self, peer: &str, role: &str) -> Value {
        row(&self.lab, "neighbors", peer, role)
    }

    /// The same of its statistics.
    pub(crate) fn statistics(&self, peer: &str, role: &str) -> Value {
        row(&self.lab, "statistics", peer, role)
    }

    /// How often a status was sent or received.
    pub(crate) fn statuses(&self, role: &str, direction: &str, name: &str) -> u64 {
        count(&self.statistics(ODD, role), "statuses", direction, name)
    }

    pub(crate) fn digest(&self) -> Value {
        digest(&self.lab, R1)
    }

    /// A peer connects to r1.
    pub(crate) fn connect(&self, peer: &str) -> Peer {
        self.connect_from(node_of(peer).0)
    }

    /// Somebody on this node connects to r1.
    pub(crate) fn connect_from(&self, node: &str) -> Peer {
        let to = SocketAddr::from((ip(address(R1)), PORT));
        on_node(&self.lab, node, || Peer::connect(to)).expect("r1 listens")
    }

    /// Where r1 asks a peer.
    pub(crate) fn listen(&self, peer: &str) -> TcpListener {
        let (node, at) = node_of(peer);
        let at = SocketAddr::from((ip(at), PORT));
        on_node(&self.lab, node, || TcpListener::bind(at)).expect("Kea has UDP only")
    }

    /// Waits until a row says this.
    pub(crate) fn expect(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        wait_for(what, PATIENCE, || is_so(self).then_some(())).unwrap_or_else(|error| {
            let rows = shown_on(&self.lab, R1, "active-leasequery neighbors");
            panic!("{error}: {rows:#}\n{}", logs(&self.lab))
        });
    }

    /// Nothing has suffered: r1 holds what it held, its session with the honest peer is the same one in both
    /// directions, and a client is answered.
    pub(crate) fn expect_undisturbed(&mut self, what: &str, held: &Value) {
        assert_eq!(self.digest(), *held, "{what}: bindings changed");
        assert_eq!(
            sessions_begun(&self.lab),
            self.honest,
            "{what}: r2 suffered"
        );
        let asked = self.row(R2, "server");
        assert_eq!(asked["state"], "active", "{what}: {asked:#}");
        // r1 asks it once more for what others that are gone may have told it.
        let asks = self.row(R2, "requestor");
        let is_up = asks["state"] == "active" || asks["state"] == "bulk-catch-up";
        assert!(is_up, "{what}: {asks:#}");
        assert_eq!(self.lab.pid("r1.twinrelay"), self.pid, "{what}: died");
        let offered = self.client.solicit(1);
        assert_eq!(
            offered.destinations().len(),
            2,
            "{what}: nothing is relayed"
        );
    }

    /// The session with the honest peer is another one by now, and that is as it should be.
    pub(crate) fn forget_sessions_begun(&mut self) {
        self.honest = sessions_begun(&self.lab);
    }

    /// A new client gets leases, and both relays hold and route all of them.
    pub(crate) fn expect_served(&mut self) {
        self.client.duid[7] += 1;
        self.client.lease(1);
        expect_same(&self.lab, 4);
    }

    /// Resident memory of r1's daemon.
    pub(crate) fn memory_kib(&self) -> u64 {
        let pid = self.pid.expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
        let number = line.expect("Linux says it").trim().trim_end_matches(" kB");
        number.parse().expect("a number")
    }

    /// How many files r1's daemon has open.
    pub(crate) fn open_files(&self) -> usize {
        let pid = self.pid.expect("it runs");
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
        files.count()
    }
}

fn row(lab: &Lab, list: &str, peer: &str, role: &str) -> Value {
    let rows = listed_on(lab, R1, &format!("active-leasequery {list}"));
    let found = rows
        .iter()
        .find(|it| it["name"] == peer && it["role"] == role);
    found
        .unwrap_or_else(|| panic!("no {role} of {peer} in {rows:#?}"))
        .clone()
}

fn count(statistics: &Value, list: &str, direction: &str, name: &str) -> u64 {
    let rows = statistics[list].as_array().expect("a list");
    let found = rows
        .iter()
        .find(|it| it["direction"] == direction && it["name"] == name);
    found.map_or(0, |it| it["count"].as_u64().expect("a number"))
}

/// How often a session was begun between r1 and r2, in each direction.
fn sessions_begun(lab: &Lab) -> [u64; 2] {
    [("requestor", "sent"), ("server", "received")].map(|(role, direction)| {
        let statistics = row(lab, "statistics", R2, role);
        count(&statistics, "messages", direction, "activeleasequery")
    })
}

/// The beginning of each LEASEQUERY-REPLY to what r1 asked: both identifiers, and the time.
pub(crate) fn head(asked: &Received) -> Vec<u8> {
    let options = read_options(&asked.options);
    let own = options.iter().find(|(code, _)| *code == 1);
    let (_, duid) = own.expect("r1 says who it is");
    [option(2, ODD_DUID), option(1, duid), base_time(now())].concat()
}

/// A message of this type to what r1 asked.
pub(crate) fn answer(asked: &Received, message_type: u8, options: &[u8]) -> Vec<u8> {
    framed(Message::new(message_type, asked.xid.0).raw(options))
}

/// For what does not happen.
pub(crate) const SHORT: Duration = Duration::from_millis(60);
