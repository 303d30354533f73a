//! Every default, and how each fault is told.

use std::path::Path;

use super::*;

const SMALLEST: &str = r#"
[[server]]
address = "2001:db8:ff::11"

[[access]]
interface = "acc0"

[[core]]
interface = "core0"
"#;

fn check(text: &str) -> Result<Loaded, Report> {
    parse(Path::new("twinrelay.toml"), text)
}

fn told(text: &str) -> String {
    match check(text) {
        Ok(loaded) => format!("taken, with:\n{}", loaded.report),
        Err(report) => report.to_string(),
    }
}

#[test]
fn smallest_file_gets_every_documented_default() {
    let loaded = check(SMALLEST).expect("it is sound");

    assert_eq!(loaded.report.diagnostics(), []);
    insta::assert_debug_snapshot!(loaded.config);
}

/// The documented whole of the file, with its defaults written out, means the same as the
/// smallest one.
#[test]
fn whole_file_with_defaults_written_out_equals_the_smallest() {
    let document = include_str!("../../../docs/configuration.md");
    let blocks: Vec<&str> = document
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let [smallest, whole] = blocks[..] else {
        panic!("{} blocks of TOML", blocks.len());
    };
    assert_eq!(smallest.trim(), SMALLEST.trim());

    let loaded = check(whole).unwrap_or_else(|report| panic!("{report}"));

    let mut smallest = check(SMALLEST).expect("it is sound").config;
    smallest.servers[0].name = "kea-a".to_owned();
    smallest.active_leasequery.peers = vec![PeerSection {
        name: "r2".to_owned(),
        address: "2001:db8:ff::2".parse().unwrap(),
        port: 547,
        is_secure: true,
        tls_name: "r2".to_owned(),
        has_shared_interface_id: false,
        links: Vec::new(),
    }];
    assert_eq!(loaded.config, smallest);
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let report = load(Path::new("/nonexistent/twinrelay.toml")).expect_err("it is not there");

    insta::assert_snapshot!(report);
}

#[test]
fn summary_is_one_line_with_file_and_line() {
    let report = check("[relay]\nmax_bindings = 0\n").expect_err("it is not sound");

    let summary = report.summary();

    assert_eq!(
        summary,
        "twinrelay.toml:2: `max_bindings` in [relay] cannot be 0 (expected a whole number, 1 to \
         16777216); and 2 more"
    );
}

#[test]
fn colour_is_only_in_the_coloured_text() {
    let report = check("[relay]\nmax_bindings = 0\n").expect_err("it is not sound");

    assert!(report.render(true).contains('\u{1b}'));
    assert!(!report.render(false).contains('\u{1b}'));
}

/// A peer over TLS.
const PEER: &str = "[[active_leasequery.peer]]\nname = \"r2\"\naddress = \"2001:db8:ff::2\"\n";

/// Each case is the smallest file with some lines before and after it.
macro_rules! told {
    ($($name:ident: $before:expr, $after:expr;)+) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(told(&format!("{}{SMALLEST}{}", $before, $after)));
        })+
    };
}

told! {
    unknown_key_in_a_section_is_refused_with_the_nearest: "[relay]\nrun_dri = \"/run\"\n", "";
    unknown_key_far_from_all_lists_the_known: "[log]\ncolour = true\n", "";
    unknown_section_is_refused: "[route]\ntable = 1\n", "";
    unknown_key_of_an_inner_table_is_refused: "", "[[access]]\ninterface = \"acc1\"\nrate_limit = { per_cleint = 3 }\n";
    text_where_a_number_belongs_is_refused: "[relay]\nmax_bindings = \"many\"\n", "";
    number_where_a_text_belongs_is_refused: "[log]\nlevel = 3\n", "";
    number_where_true_or_false_belongs_is_refused: "[routes]\nenabled = 1\n", "";
    table_where_a_list_belongs_is_refused: "[access]\ninterface = \"a\"\n", "";
    number_out_of_bounds_is_refused: "[relay]\nmax_leases_per_client = 0\n", "";
    negative_number_is_refused: "[routes]\nmetric = -1\n", "";
    metric_zero_is_refused: "[routes]\nmetric = 0\n", "";
    metric_of_the_kernel_is_warned_of: "[routes]\nmetric = 1024\n", "";
    protocol_of_the_kernel_is_refused: "[routes]\nprotocol = 2\n", "";
    protocol_of_a_routing_daemon_is_warned_of: "[routes]\nprotocol = 12\n", "";
    table_of_the_kernel_is_refused: "[routes]\ntable = 255\n", "";
    prefix_with_host_bits_is_refused: "[routes]\nallowed = [\"2001:db8::/32\", \"2001:db8::1/64\"]\n", "";
    aggregate_of_everything_is_refused: "[routes]\naggregates = [\"::/0\"]\n", "";
    relay_id_that_is_too_short_is_refused: "[relay]\nrelay_id = \"00:04\"\n", "";
    relay_id_that_is_not_hex_is_refused: "[relay]\nrelay_id = \"my-relay\"\n", "";
    relative_path_is_refused: "[relay]\nrun_dir = \"run\"\n", "";
    source_address_that_is_link_local_is_refused: "[relay]\nsource_address = \"fe80::1\"\n", "";
    log_level_that_is_misspelt_is_refused: "[log]\nlevel = \"inof\"\n", "";
    log_format_that_is_unknown_is_refused: "[log]\nformat = \"xml\"\n", "";
    metrics_address_without_port_is_refused: "[metrics]\nlisten = \"::1\"\n", "";
    on_exit_that_is_unknown_is_refused: "[dataplane]\non_exit = \"stay\"\n", "";
    server_without_address_is_refused: "", "[[server]]\nname = \"kea-b\"\n";
    server_with_an_ipv4_address_is_refused: "", "[[server]]\naddress = \"192.0.2.1\"\n";
    link_local_server_without_interface_is_refused: "", "[[server]]\naddress = \"fe80::1\"\n";
    multicast_server_without_interface_is_refused: "", "[[server]]\naddress = \"ff05::1:3\"\n";
    server_on_an_interface_that_is_no_core_is_warned_of: "", "[[server]]\naddress = \"ff05::1:3\"\ninterface = \"acc0\"\n";
    server_named_twice_is_refused: "", "[[server]]\naddress = \"2001:db8:ff::12\"\nname = \"2001:db8:ff::11\"\n";
    server_address_twice_is_refused: "", "[[server]]\naddress = \"2001:db8:ff::11\"\nname = \"again\"\n";
    server_reference_without_server_is_refused: "", "[[access]]\ninterface = \"acc1\"\nservers = [\"kea-b\"]\n";
    access_interface_twice_is_refused: "", "[[access]]\ninterface = \"acc0\"\n";
    access_interface_that_is_core_too_is_refused: "", "[[core]]\ninterface = \"acc0\"\n";
    access_without_interface_is_refused: "", "[[access]]\ncapture = \"xdp\"\n";
    interface_name_that_is_too_long_is_refused: "", "[[access]]\ninterface = \"an-interface-name\"\n";
    interface_id_that_is_too_long_is_refused: "", format!("[[access]]\ninterface = \"acc1\"\ninterface_id = \"{}\"\n", "x".repeat(253));
    interface_id_twice_is_refused: "", "[[access]]\ninterface = \"acc1\"\ninterface_id = \"acc0\"\n";
    interface_id_of_tagged_clients_of_another_is_refused: "", "[[access]]\ninterface = \"acc0.100\"\n";
    interface_id_of_doubly_tagged_clients_of_a_later_one_is_refused: "[[access]]\ninterface = \"acc1\"\ninterface_id = \"acc0.7.4095\"\n", "";
    interface_id_that_no_tag_makes_is_taken: "", "[[access]]\ninterface = \"acc0.4096\"\n[[access]]\ninterface = \"acc0.01\"\n[[access]]\ninterface = \"acc0.1.2.3\"\n";
    link_address_twice_is_refused: "", "[[access]]\ninterface = \"a\"\nlink_address = \"2001:db8:1::1\"\n[[access]]\ninterface = \"b\"\nlink_address = \"2001:db8:1::1\"\n";
    link_address_that_is_multicast_is_refused: "", "[[access]]\ninterface = \"a\"\nlink_address = \"ff02::1\"\n";
    capture_that_is_unknown_is_refused: "", "[[access]]\ninterface = \"a\"\ncapture = \"pcap\"\n";
    remote_id_without_enterprise_is_refused: "", "[[access]]\ninterface = \"a\"\nremote_id = { value = \"{mac}\" }\n";
    remote_id_without_value_is_refused: "", "[[access]]\ninterface = \"a\"\nremote_id = { enterprise = 32473 }\n";
    remote_id_with_an_unknown_placeholder_is_refused: "", "[[access]]\ninterface = \"a\"\nremote_id = { enterprise = 32473, value = \"{mac}-{port}\" }\n";
    echo_request_that_is_no_option_code_is_refused: "", "[[access]]\ninterface = \"a\"\necho_request = [37, 65536]\n";
    active_leasequery_without_a_peer_is_warned_of: "[active_leasequery]\nenabled = true\n", "";
    peer_over_tls_without_certificates_is_refused: "[active_leasequery]\nenabled = true\n", PEER;
    certificates_that_are_not_there_are_refused: "[active_leasequery]\nenabled = true\n[tls]\ncertificate = \"/nonexistent/r1.pem\"\nkey = \"/nonexistent/r1.key\"\nca = \"/nonexistent/ca.pem\"\n", PEER;
    certificates_are_not_looked_at_while_leasequery_is_off: "[tls]\ncertificate = \"/nonexistent/r1.pem\"\n", PEER;
    peer_named_and_addressed_twice_is_refused: "", format!("{PEER}{PEER}");
    peer_with_our_own_address_is_refused: "[relay]\nsource_address = \"2001:db8:ff::2\"\n", PEER;
    peer_with_a_name_that_no_certificate_bears_is_refused: "", "[[active_leasequery.peer]]\nname = \"r:2\"\naddress = \"2001:db8:ff::2\"\n";
    links_to_an_unknown_interface_and_twice_are_refused: "", format!("{PEER}links = [{{ peer = \"2001:db8:1::1\", interface = \"acc9\" }}, {{ peer = \"2001:db8:1::1\", interface = \"acc0\" }}]\n");
    timers_below_their_defaults_are_warned_of: "[active_leasequery]\nreceive_timeout = 60\nidle_timeout = 10\n", "";
    history_that_ends_before_a_slow_reader_is_closed_is_refused: "[active_leasequery]\nhistory = 60\n", "";
    listen_on_an_ipv4_address_is_refused: "[active_leasequery]\nlisten = [\"0.0.0.0:547\"]\n", "";
    active_leasequery_peer_without_tls_needs_a_second_step: "", "[[active_leasequery.peer]]\nname = \"r2\"\naddress = \"2001:db8:ff::2\"\ntls = \"off\"\n";
    bulk_leasequery_of_a_group_is_refused: "", "[[server]]\naddress = \"ff05::1:3\"\ninterface = \"core0\"\nbulk_leasequery = true\n";
    binding_log_that_grows_for_a_century_is_refused: "[relay]\nbinding_log = \"/var/log/leases\"\nbinding_log_age = 3153600000\n", "";
    source_guard_without_allowed_sources_is_reminded_of_the_twin: "", "[[access]]\ninterface = \"a\"\nsource_guard = \"monitor\"\n";
    source_guard_with_the_twin_allowed_is_taken: "", "[[access]]\ninterface = \"a\"\nsource_guard = \"enforce\"\nsource_allow = [\"2001:db8:100::2\", \"2001:db8:200::/40\"]\n";
    source_guard_and_anti_loop_with_sockets_are_refused: "", "[[access]]\ninterface = \"a\"\ncapture = \"socket\"\nsource_guard = \"enforce\"\nsource_allow = [\"2001:db8::1\"]\nanti_loop = \"drop\"\n";
    source_allow_with_host_bits_is_refused: "", "[[access]]\ninterface = \"a\"\nsource_allow = [\"2001:db8::1/64\"]\n";
    anti_loop_that_answers_is_not_in_this_release: "", "[[access]]\ninterface = \"a\"\nanti_loop = \"icmp\"\n";
    forwarding_that_is_unknown_is_refused: "[dataplane]\nforwarding = \"nft\"\n", "";
    tls_with_a_relative_path_is_refused: "[tls]\nkey = \"key.pem\"\n", "";
    broken_toml_is_refused_with_its_place: "[relay\nuser = \"x\"\n", "";
    several_faults_are_told_at_once: "[relay]\nrun_dri = \"/run\"\nmax_bindings = 0\n[routes]\nmetric = 1024\n", "[[access]]\ncapture = \"x\"\n";
}

#[test]
fn empty_file_is_told_what_it_needs() {
    insta::assert_snapshot!(told(""));
}

/// Where nothing else is said: TCP 547 here and there, and at servers.
/// req: ALQ-2, BLQ-1 (RFC 7653 §3, RFC 5460 §5.6)
#[test]
fn alq_2_leasequery_is_on_port_547_unless_another_is_named() {
    let config = |text: &str| check(text).expect("it is sound").config;

    let default = config(&format!("{SMALLEST}{PEER}"));
    assert_eq!(
        default.active_leasequery.listen,
        ["[::]:547".parse().unwrap()]
    );
    assert_eq!(default.active_leasequery.peers[0].port, 547);
    assert_eq!(default.servers[0].port, 547);

    let listen = "[active_leasequery]\nlisten = [\"[2001:db8:ff::1]:5470\"]\n";
    let other = config(&format!("{listen}{SMALLEST}{PEER}port = 5471\n"));
    assert_eq!(
        other.active_leasequery.listen,
        ["[2001:db8:ff::1]:5470".parse().unwrap()]
    );
    assert_eq!(other.active_leasequery.peers[0].port, 5471);
}

/// Both modes are there, and clear text takes two steps, each of which alone is none.
/// req: ALQ-48, ALQ-49, ALQ-19 (RFC 7653 §8.2, §9.1)
#[test]
fn alq_48_clear_text_takes_two_steps() {
    let is_secure = |allow: &str, tls: &str| {
        let text = format!("[active_leasequery]\n{allow}{SMALLEST}{PEER}{tls}");
        let config = check(&text).ok()?.config;
        Some(config.active_leasequery.peers[0].is_secure)
    };
    let (allow, off) = ("allow_insecure = true\n", "tls = \"off\"\n");

    assert_eq!(is_secure("", ""), Some(true));
    assert_eq!(is_secure(allow, ""), Some(true));
    assert_eq!(is_secure("", off), None, "refused");
    assert_eq!(is_secure(allow, off), Some(false));
}

/// Who asks or answers is named by a unicast address. req: BLQ-3 (RFC 5460 §3)
#[test]
fn blq_3_peers_and_servers_that_are_asked_have_unicast_addresses() {
    let group = "address = \"ff05::1:3\"\ninterface = \"core0\"\n";

    for asked in [
        format!("[[active_leasequery.peer]]\nname = \"r2\"\n{group}"),
        "[[active_leasequery.peer]]\nname = \"r2\"\naddress = \"ff05::1:3\"\n".to_owned(),
        format!("[[server]]\n{group}bulk_leasequery = true\n"),
    ] {
        assert!(check(&format!("{SMALLEST}{asked}")).is_err(), "{asked}");
    }
    assert!(check(&format!("{SMALLEST}[[server]]\n{group}")).is_ok());
}
