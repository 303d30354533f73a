//! What a person or a program sees of the running daemon, and what it leaves behind.

use crate::harness::{CONFIGURATION, expect_no_route, expect_reached, lab, prefix, route, shown};
use std::time::Duration;
use xtask::lab::{Client, Lifetimes, wait_for};

#[test]
fn show_subscribers_json_lists_address_and_prefix_with_installed_routes() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let (address, lan) = expect_reached(&mut lab, Client::Dhcpcd);

    let text = lab
        .twinrelay(&["show", "subscribers", "--json"])
        .expect("show subscribers answers");

    let document: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let subscriber = &document["subscribers"][0];
    assert_eq!(subscriber["interface"], "acc0");
    assert_eq!(subscriber["mac"], "02:00:00:00:00:12");
    let bindings = subscriber["bindings"]
        .as_array()
        .expect("a list of bindings");
    let mut seen: Vec<_> = bindings
        .iter()
        .map(|it| {
            (
                it["type"].as_str(),
                it["prefix"].as_str(),
                it["route"].as_str(),
                it["origin"].as_str(),
            )
        })
        .collect();
    seen.sort_unstable();
    let (address, prefix) = (format!("{address}/128"), prefix(&lan));
    let (installed, snooped) = (Some("installed"), Some("snooped"));
    assert_eq!(
        seen,
        [
            (Some("IA_NA"), Some(address.as_str()), installed, snooped),
            (Some("IA_PD"), Some(prefix.as_str()), installed, snooped)
        ]
    );
}

#[test]
fn sighup_with_a_broken_file_changes_nothing() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let before = lab
        .twinrelay(&["show", "servers", "--json"])
        .expect("show servers answers");
    let file = lab.dir().join("r1/twinrelay.toml");
    std::fs::write(&file, "[[server]]\nadress = \"2001:db8:c::99\"\n")
        .expect("the file is writable");

    lab.signal("r1.twinrelay", "HUP").expect("the daemon runs");
    wait_for("the refusal", Duration::from_secs(5), || {
        lab.log("r1.twinrelay").contains("adress").then_some(())
    })
    .expect("the log names the offending text");
    std::fs::write(&file, CONFIGURATION).expect("the file is writable");

    let names = |text: &str| -> Vec<String> {
        let document: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
        document["servers"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|it| it["name"].to_string())
            .collect()
    };
    assert_eq!(
        names(
            &lab.twinrelay(&["show", "servers", "--json"])
                .expect("still answers")
        ),
        names(&before)
    );
    assert_eq!(
        shown(&lab, "statistics")["statistics"]["reloads_refused"],
        1
    );
    expect_reached(&mut lab, Client::Dhclient);
}

/// req: PDR-O-2 (RFC 8987 §4.4)
#[test]
fn pdr_o_2_clear_binding_takes_the_route_of_one_prefix_away() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let (address, lan) = expect_reached(&mut lab, Client::Dhclient);

    lab.twinrelay(&["clear", "binding", &prefix(&lan)])
        .expect("clear answers");

    expect_no_route(&lab, &prefix(&lan), 3);
    assert!(
        !route(&lab, &format!("{address}/128")).is_empty(),
        "the address's route went too"
    );
}

#[test]
fn foreign_route_to_the_leased_prefix_stays_and_ours_is_refused() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    lab.exec(
        "r1",
        &[
            "ip",
            "-6",
            "route",
            "add",
            "2001:db8:d000::/56",
            "via",
            "2001:db8:c::fe",
            "proto",
            "static",
        ],
    )
    .expect("r1 takes a route");
    let before = route(&lab, "2001:db8:d000::/56");
    lab.start_client(Client::Dhclient)
        .expect("the client starts");

    let (_, lan) = lab
        .lease(Client::Dhclient)
        .expect("the client gets address and prefix");

    assert_eq!(
        prefix(&lan),
        "2001:db8:d000::/56",
        "Kea lends the first prefix first"
    );
    assert_eq!(route(&lab, "2001:db8:d000::/56"), before);
    let shown = lab
        .twinrelay(&["show", "bindings", "--json"])
        .expect("show bindings answers");
    assert!(shown.contains("\"failed\""), "{shown}");
}
