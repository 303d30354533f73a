//! Packets of subscribers: guarded, counted, dropped when their binding is over, forwarded both ways. Each case of
//! the guard is run by the kernel and by the shared functions built for userspace, over the same bindings.

use std::collections::HashMap;

use aya::programs::XdpMode;
use nix::sched::{CloneFlags, unshare};
use relay_common::abi::{
    AddressKey, BINDING_ROUTED, Binding, BindingStats, Daemon, FLAG_ANTI_LOOP, FLAG_ENFORCE,
    FLAG_FORWARD, FLAG_GUARD, Interface, LAYOUT, PrefixKey, PrefixLengths, ROLE_CORE,
};
use relay_common::bindings::Bindings;
use relay_common::guard::{Judgement, judge};
use relay_common::maps::{self, DropReason, lengths_place};
use relay_common::net::{TPID_8021AD, TPID_8021Q};
use relay_common::packet::{AddressBe, Key, Packet, halves, read, upper};
use relay_tests::messages::ip as address;
use relay_userspace::daemon::privileges::{NEEDED, keep_only};

use crate::attached::{index, ip};
use crate::empty::Empty;
use crate::harness::{Kernel, XDP_DROP, XDP_PASS, XDP_REDIRECT, boot_nanos, interface, skip};
use crate::subscriber_frames::{ACCESS_MAC, CLIENT_MAC, CORE_MAC, OTHER_MAC, Sent, UPSTREAM_MAC};

const NEVER: u64 = u64::MAX;

/// Address or prefix, its binding.
type Held = (&'static str, u32, Binding);

fn binding(ifindex: u32, slot: u32) -> Binding {
    Binding {
        valid_until_boot_nanos: NEVER,
        ifindex,
        slot,
        client_mac: CLIENT_MAC,
        outer_tpid: 0,
        outer_vid: 0,
        inner_tpid: 0,
        inner_vid: 0,
        flags: BINDING_ROUTED,
    }
}

/// What the two interfaces know: an address, prefixes of three lengths, one inside another, tagged clients, a binding
/// that is over, and one without a route.
fn held(ifindex: u32) -> Vec<Held> {
    let of = |slot| binding(ifindex, slot);
    let mut over = of(4);
    over.valid_until_boot_nanos = boot_nanos();
    let mut other = of(5);
    other.client_mac = OTHER_MAC;
    let mut tagged = of(6);
    (tagged.outer_tpid, tagged.outer_vid) = (TPID_8021Q, 100);
    let mut double = of(7);
    (double.outer_tpid, double.outer_vid) = (TPID_8021AD, 7);
    (double.inner_tpid, double.inner_vid) = (TPID_8021Q, 100);
    let mut unrouted = of(8);
    unrouted.flags = 0;
    vec![
        ("2001:db8:100::10", 128, of(1)),
        ("2001:db8:8000:100::", 56, of(2)),
        ("2001:db8:8000:160::", 60, other),
        ("2001:db8:9000:0:8000::", 65, of(3)),
        ("2001:db8:8000:400::", 56, over),
        ("2001:db8:8000:600::", 56, tagged),
        ("2001:db8:8000:700::", 56, double),
        ("2001:db8:8000:800::", 56, unrouted),
        ("2001:db8:a000::", 40, of(9)),
    ]
}

/// The lengths of each place, as the daemon would write them.
fn lengths(held: &[Held]) -> HashMap<u32, PrefixLengths> {
    let mut all: HashMap<u32, Vec<u8>> = HashMap::new();
    for (text, bits, _) in held {
        let first = u64::from_be_bytes(*address(text).octets().first_chunk().expect("16 octets"));
        // A prefix shorter than 48 bits is in all places that it covers.
        let covered = 1u64 << 48u32.saturating_sub(*bits);
        for step in 0..covered {
            let of = all.entry(lengths_place(first + (step << 16))).or_default();
            of.push(u8::try_from(*bits).expect("at most 128"));
        }
    }
    all.into_iter()
        .map(|(place, mut lengths)| {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
            (place, PrefixLengths::new(lengths))
        })
        .collect()
}

/// The maps for the shared functions in userspace.
struct Table {
    addresses: HashMap<[u8; 16], Binding>,
    prefixes: HashMap<PrefixKey, Binding>,
    lengths: HashMap<u32, PrefixLengths>,
    allowed: [u8; 16],
}

impl Bindings for Table {
    fn lengths(&self, place: u32) -> Option<&PrefixLengths> {
        self.lengths.get(&place)
    }

    fn by_address(&self, key: &Key) -> Option<&Binding> {
        self.addresses.get(&key.prefix().address_be)
    }

    fn by_prefix(&self, key: &Key) -> Option<&Binding> {
        self.prefixes.get(&key.prefix())
    }

    fn is_allowed(&self, _: u32, address: &AddressBe) -> bool {
        let (first, _) = halves(address);
        self.allowed[..8] == first.to_be_bytes()
    }
}

/// Two routers' sides in a namespace of this thread, and the maps filled.
struct World {
    kernel: Kernel,
    access: u32,
    core: u32,
}

impl World {
    /// With the daemon's own capabilities. `None`: skipped.
    fn new(access_flags: u32, core_flags: u32) -> Option<Self> {
        Self::with(access_flags, core_flags, true)
    }

    /// The same, as root where nothing is to be given up.
    fn with(access_flags: u32, core_flags: u32, is_confined: bool) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            skip("this system does not let root make a network namespace");
            return None;
        }
        ip("link add access type veth peer name client");
        ip("link add core type veth peer name upstream");
        for (name, mac) in [("access", ACCESS_MAC), ("core", CORE_MAC)] {
            let [a, b, c, d, e, f] = mac;
            ip(&format!(
                "link set {name} address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} up"
            ));
        }
        ip("link set client up");
        ip("link set upstream up");
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("sysctl");
        ip("address add 2001:db8:c::1/64 dev core nodad");
        ip("neighbor add 2001:db8:c::2 lladdr 02:00:00:00:c0:01 dev core nud permanent");
        ip("route add default via 2001:db8:c::2");
        // The way from one subscriber to another.
        ip("neighbor add fe80::2 lladdr 02:00:00:00:00:02 dev access nud permanent");
        ip("route add 2001:db8:8000:160::/60 via fe80::2 dev access");
        let (access, core) = (index("access"), index("core"));
        if is_confined {
            keep_only(&NEEDED).expect("root may give up capabilities");
        }
        let mut kernel = Kernel::load(1 << 16)?;
        let entry = |role, flags, mac| {
            let mut entry = Interface {
                role,
                flags,
                ..interface()
            };
            entry.macs[0] = mac;
            entry
        };
        let of_access = entry(interface().role, access_flags, ACCESS_MAC);
        kernel.set_interface_at(access, of_access);
        kernel.set_interface_at(core, entry(ROLE_CORE, core_flags, CORE_MAC));
        kernel.open_egress(access);
        kernel.open_egress(core);
        kernel.allow_source(access, "2001:db8:101::", 64);
        let held = held(access);
        for (text, bits, binding) in &held {
            let address_be = address(text).octets();
            match bits {
                128 => kernel.put(maps::ADDR_BINDINGS, AddressKey { address_be }, *binding),
                bits => {
                    let key = PrefixKey {
                        address_be,
                        bits: *bits,
                    };
                    kernel.put(maps::PREFIX_BINDINGS, key, *binding);
                }
            }
        }
        for (place, lengths) in lengths(&held) {
            kernel.put_lengths(place, lengths);
        }
        let mut world = Self {
            kernel,
            access,
            core,
        };
        world.say(1);
        Some(world)
    }

    fn say(&mut self, ready: u32) {
        self.kernel.set_daemon(Daemon {
            layout: LAYOUT,
            quiet: 0,
            heartbeat_boot_nanos: boot_nanos(),
            ready,
            data_path: 1,
        });
    }

    /// From the access side; the action and the frame as it leaves.
    fn up(&mut self, sent: &Sent) -> (u32, Vec<u8>) {
        self.say(1);
        let (action, _, left) =
            self.kernel
                .run_on(maps::ACCESS_INGRESS, self.access, &sent.frame(), 1);
        (action, left)
    }

    /// From the core side.
    fn down(&mut self, sent: &Sent) -> (u32, Vec<u8>) {
        let (action, _, left) = self
            .kernel
            .run_on(maps::CORE_INGRESS, self.core, &sent.frame(), 1);
        (action, left)
    }

    fn table(&self) -> Table {
        let held = held(self.access);
        let key = |text: &str| address(text).octets();
        Table {
            addresses: held
                .iter()
                .filter(|it| it.1 == 128)
                .map(|it| (key(it.0), it.2))
                .collect(),
            prefixes: held
                .iter()
                .map(|it| {
                    (
                        PrefixKey {
                            address_be: key(it.0),
                            bits: it.1,
                        },
                        it.2,
                    )
                })
                .collect(),
            lengths: lengths(&held),
            allowed: key("2001:db8:101::"),
        }
    }
}

/// What the guard must say of a frame: why it refuses, or not at all.
#[rustfmt::skip]
fn guarded() -> Vec<(&'static str, Sent, Option<DropReason>)> {
    use DropReason::{HeaderChain, NeighborTarget, ServerMessage, SourceExpired, SourceForeign, SourceUnbound};
    let from = Sent::up;
    let of_other = |mut sent: Sent| { sent.source_mac = OTHER_MAC; sent };
    // What a peer told of a lease says no TPID.
    let with_tpid = |mut sent: Sent| { sent.tags[0].0 = TPID_8021AD; sent };
    let own = "2001:db8:8000:1ff::1";
    let to_client = Sent { payload: crate::subscriber_frames::udp(547, 546, 32), ..from("fe80::1") };
    vec![
        ("link-local", from("fe80::1"), None),
        ("unspecified, as in DAD", from("::"), None),
        ("its address", from("2001:db8:100::10"), None),
        ("another's MAC with its address", of_other(from("2001:db8:100::10")), Some(SourceForeign)),
        ("in its prefix", from(own), None),
        ("the prefix beside its own", from("2001:db8:8000:200::1"), Some(SourceUnbound)),
        ("in a longer prefix of another", from("2001:db8:8000:16f::1"), Some(SourceForeign)),
        ("the owner of that", of_other(from("2001:db8:8000:16f::1")), None),
        ("the first half of a /65 of which it has the second", from("2001:db8:9000::1"), Some(SourceUnbound)),
        ("its /65", from("2001:db8:9000:0:8000::1"), None),
        ("its /40", from("2001:db8:a0ff::1"), None),
        ("over", from("2001:db8:8000:4ff::1"), Some(SourceExpired)),
        ("allowed", from("2001:db8:101:0:1::1"), None),
        ("made up", from("2001:db8:dead::1"), Some(SourceUnbound)),
        ("multicast", from("ff02::1"), Some(SourceUnbound)),
        ("loopback", from("::1"), Some(SourceUnbound)),
        ("its tagged prefix without the tag", from("2001:db8:8000:600::1"), Some(SourceForeign)),
        ("its tagged prefix", from("2001:db8:8000:600::1").tagged(100), None),
        ("with priority bits", from("2001:db8:8000:600::1").tagged(0xe064), None),
        ("the tag of another kind", with_tpid(from("2001:db8:8000:600::1").tagged(100)), None),
        ("another VLAN", from("2001:db8:8000:600::1").tagged(101), Some(SourceForeign)),
        ("two tags", from("2001:db8:8000:700::1").double_tagged(7, 100), None),
        ("another inner tag", from("2001:db8:8000:700::1").double_tagged(7, 101), Some(SourceForeign)),
        ("its own address advertised", Sent::advertisement("fe80::1", own), None),
        ("a link-local address advertised", Sent::advertisement("fe80::1", "fe80::1"), None),
        ("a foreign address advertised", Sent::advertisement("fe80::1", "2001:db8:f::1"), Some(NeighborTarget)),
        ("another's address advertised", Sent::advertisement("fe80::1", "2001:db8:8000:160::1"), Some(NeighborTarget)),
        ("the same behind options", Sent::advertisement("fe80::1", "2001:db8:f::1").behind(60, 1), Some(NeighborTarget)),
        ("the same behind four headers", Sent::advertisement("fe80::1", "2001:db8:f::1").behind(0, 4), Some(NeighborTarget)),
        ("more headers than are read", Sent::advertisement("fe80::1", "2001:db8:f::1").behind(60, 5), Some(HeaderChain)),
        ("a server's message", to_client, Some(ServerMessage)),
        ("a fragment", Sent { next_header: 44, ..from(own) }, None),
        ("UDP that is cut off", Sent { payload: vec![0; 3], ..from(own) }, None),
        ("nothing behind the header", Sent { payload: vec![], ..from(own) }, None),
    ]
}

/// req: DP-1, DP-4, DP-8, DP-9, DP-11, DP-12, DP-13, DP-22, DP-38 (RFC 7513 §8, RFC 8987 §4.2)
#[test]
fn guard_judges_alike_in_the_kernel_and_in_userspace() {
    let Some(mut world) = World::new(FLAG_GUARD | FLAG_ENFORCE, 0) else {
        return;
    };
    let table = world.table();
    for (what, sent, refused) in guarded() {
        let before = refused.map(|reason| world.kernel.refused(reason));
        let (action, left) = world.up(&sent);

        let (mut packet, mut key) = (Packet::default(), Key::default());
        let frame = sent.frame();
        assert!(read(frame.as_slice(), &mut packet), "{what}");
        let upper = upper(frame.as_slice(), &mut packet);
        let said = judge(&table, &packet, upper, world.access, boot_nanos(), &mut key);
        let said = match said {
            Judgement::Refused(reason) => Some(reason),
            Judgement::Bound(_) | Judgement::Free => None,
        };
        assert_eq!(said, refused, "{what}: in userspace");
        let expected = if refused.is_some() {
            XDP_DROP
        } else {
            XDP_PASS
        };
        assert_eq!(
            action,
            expected,
            "{what}: in the kernel, {:?}",
            world.kernel.reasons()
        );
        assert_eq!(left, frame, "{what}: the frame is left alone");
        if let (Some(reason), Some(before)) = (refused, before) {
            let after = world.kernel.refused(reason);
            assert_eq!(
                (after.dropped, after.passed),
                (before.dropped + 1, before.passed),
                "{what}"
            );
        }
    }
}

#[test]
fn dp_25_guard_counts_only_in_monitor_or_not_ready_or_without_daemon() {
    let Some(mut world) = World::new(FLAG_GUARD | FLAG_ENFORCE, 0) else {
        return;
    };
    let spoofed = Sent::up("2001:db8:dead::1").frame();
    let run = |world: &World| {
        world
            .kernel
            .run_on(maps::ACCESS_INGRESS, world.access, &spoofed, 1)
            .0
    };

    world.say(1);
    assert_eq!(run(&world), XDP_DROP);
    world.say(0);
    assert_eq!(run(&world), XDP_PASS, "not ready");
    world.kernel.set_daemon(Daemon {
        layout: LAYOUT,
        quiet: 0,
        heartbeat_boot_nanos: boot_nanos() - 2_000_000_000,
        ready: 1,
        data_path: 1,
    });
    assert_eq!(run(&world), XDP_PASS, "no daemon");
    world.say(1);
    let mut monitored = interface();
    monitored.flags = FLAG_GUARD;
    world.kernel.set_interface_at(world.access, monitored);
    assert_eq!(run(&world), XDP_PASS, "monitor");

    let refused = world.kernel.refused(DropReason::SourceUnbound);
    assert_eq!((refused.dropped, refused.passed), (1, 3));
}

#[test]
fn dp_10_client_message_from_an_unbound_source_is_not_captured() {
    let Some(mut world) = World::new(FLAG_GUARD | FLAG_ENFORCE, 0) else {
        return;
    };
    let message = |source| Sent {
        destination: "ff02::1:2",
        destination_mac: [0x33, 0x33, 0, 1, 0, 2],
        payload: crate::subscriber_frames::udp(546, 547, 32),
        ..Sent::up(source)
    };

    assert_eq!(world.up(&message("fe80::1")).0, XDP_DROP);
    assert_eq!(world.up(&message("2001:db8:100::10")).0, XDP_DROP);
    assert_eq!(world.kernel.drain(), 2, "both are in the ring");
    assert_eq!(world.up(&message("2001:db8:dead::1")).0, XDP_DROP);
    assert_eq!(world.kernel.drain(), 0);
    assert_eq!(world.kernel.reasons(), [("source_unbound", 1)]);
}

#[test]
fn subscribers_traffic_is_counted_in_octets_of_ip() {
    let Some(mut world) = World::new(FLAG_GUARD, 0) else {
        return;
    };
    world.up(&Sent::up("2001:db8:100::10"));
    world.up(&Sent::up("2001:db8:8000:1ff::1"));
    world.up(&Sent::up("2001:db8:8000:1ff::1"));
    world.down(&Sent::down("2001:db8:8000:100::1"));
    // A frame for another station, flooded by a bridge, is no traffic of ours.
    world.down(&Sent {
        destination_mac: OTHER_MAC,
        ..Sent::down("2001:db8:8000:100::1")
    });

    let counted = |rx_packets, tx_packets| BindingStats {
        rx_packets,
        rx_bytes: rx_packets * 80,
        tx_packets,
        tx_bytes: tx_packets * 80,
    };
    assert_eq!(world.kernel.stats(1), counted(1, 0));
    assert_eq!(world.kernel.stats(2), counted(2, 1));
    assert_eq!(world.kernel.stats(3), counted(0, 0));
}

#[test]
fn dp_37_packet_to_a_binding_that_is_over_is_dropped_without_forwarding_too() {
    let Some(mut world) = World::new(0, 0) else {
        return;
    };
    assert_eq!(world.down(&Sent::down("2001:db8:8000:400::1")).0, XDP_DROP);
    assert_eq!(world.down(&Sent::down("2001:db8:8000:100::1")).0, XDP_PASS);
    assert_eq!(world.down(&Sent::down("2001:db8:8000:500::1")).0, XDP_PASS);
    assert_eq!(world.kernel.reasons(), [("expired", 1)]);
}

#[test]
fn packet_to_a_subscriber_leaves_with_its_mac_and_tags() {
    let Some(mut world) = World::new(FLAG_FORWARD, FLAG_FORWARD) else {
        return;
    };
    let expect = |mut sent: Sent| {
        sent.source_mac = ACCESS_MAC;
        sent.destination_mac = CLIENT_MAC;
        sent.hop_limit -= 1;
        (XDP_REDIRECT, sent.frame())
    };
    let plain = Sent::down("2001:db8:8000:100::1");
    assert_eq!(world.down(&plain), expect(plain.clone()));
    let address = Sent::down("2001:db8:100::10");
    assert_eq!(world.down(&address), expect(address.clone()));
    let tagged = Sent::down("2001:db8:8000:600::1");
    assert_eq!(world.down(&tagged), expect(tagged.clone().tagged(100)));
    let double = Sent::down("2001:db8:8000:700::1");
    assert_eq!(
        world.down(&double),
        expect(double.clone().double_tagged(7, 100))
    );
}

#[test]
fn packet_of_a_subscriber_leaves_by_the_kernels_route_without_tags() {
    let Some(mut world) = World::new(FLAG_FORWARD | FLAG_GUARD | FLAG_ENFORCE, FLAG_FORWARD) else {
        return;
    };
    let expect = |mut sent: Sent| {
        sent.source_mac = CORE_MAC;
        sent.destination_mac = UPSTREAM_MAC;
        sent.hop_limit -= 1;
        sent.tags.clear();
        (XDP_REDIRECT, sent.frame())
    };
    for sent in [
        Sent::up("2001:db8:8000:100::1"),
        Sent::up("2001:db8:8000:600::1").tagged(100),
        Sent::up("2001:db8:8000:700::1").double_tagged(7, 100),
    ] {
        assert_eq!(world.up(&sent), expect(sent.clone()));
    }
    assert_eq!(world.up(&Sent::up("2001:db8:dead::1")).0, XDP_DROP);
}

/// req: DP-28, DP-54
#[test]
fn what_a_router_answers_itself_is_left_to_the_kernel_untouched() {
    let Some(mut world) = World::new(FLAG_FORWARD, FLAG_FORWARD) else {
        return;
    };
    let down = || Sent::down("2001:db8:8000:100::1");
    let mut too_big = down();
    too_big.payload = vec![0; 1461];
    let mut fits = down();
    fits.payload = vec![0; 1460];
    let cut = {
        let mut frame = down().frame();
        frame.pop();
        frame
    };
    assert_eq!(world.down(&fits).0, XDP_REDIRECT, "the largest that fits");
    for (what, sent) in [
        ("too big", too_big),
        (
            "hop limit 1",
            Sent {
                hop_limit: 1,
                ..down()
            },
        ),
        (
            "hop limit 0",
            Sent {
                hop_limit: 0,
                ..down()
            },
        ),
        ("hop-by-hop options", down().behind(0, 1)),
        (
            "a fragment",
            Sent {
                next_header: 44,
                ..down()
            },
        ),
        (
            "link-local source",
            Sent {
                source: "fe80::1",
                ..down()
            },
        ),
        (
            "no source",
            Sent {
                source: "::",
                ..down()
            },
        ),
        (
            "loopback source",
            Sent {
                source: "::1",
                ..down()
            },
        ),
        (
            "multicast source",
            Sent {
                source: "ff02::1",
                ..down()
            },
        ),
        (
            "no payload",
            Sent {
                payload: vec![],
                ..down()
            },
        ),
        (
            "another station's",
            Sent {
                destination_mac: OTHER_MAC,
                ..down()
            },
        ),
        (
            "a binding without route",
            Sent::down("2001:db8:8000:800::1"),
        ),
        ("no binding", Sent::down("2001:db8:8000:500::1")),
        ("tagged on the core side", down().tagged(5)),
    ] {
        assert_eq!(world.down(&sent), (XDP_PASS, sent.frame()), "down: {what}");
    }
    let (action, _, left) = world.kernel.run_on(maps::CORE_INGRESS, world.core, &cut, 1);
    assert_eq!((action, left), (XDP_PASS, cut), "shorter than it says");

    let up = || Sent::up("2001:db8:8000:100::1");
    for (what, sent) in [
        (
            "hop limit 1",
            Sent {
                hop_limit: 1,
                ..up()
            },
        ),
        (
            "to the router",
            Sent {
                destination: "2001:db8:c::1",
                ..up()
            },
        ),
        (
            "a neighbour that is not known",
            Sent {
                destination: "2001:db8:c::77",
                ..up()
            },
        ),
        (
            "to another subscriber",
            Sent {
                destination: "2001:db8:8000:160::1",
                ..up()
            },
        ),
        (
            "multicast",
            Sent {
                destination: "ff0e::1",
                ..up()
            },
        ),
        (
            "another station's",
            Sent {
                destination_mac: OTHER_MAC,
                ..up()
            },
        ),
        (
            "link-local",
            Sent {
                source: "fe80::1",
                ..up()
            },
        ),
    ] {
        assert_eq!(world.up(&sent), (XDP_PASS, sent.frame()), "up: {what}");
    }
}

#[test]
fn pdr_r_5_packet_to_its_own_senders_lease_is_dropped_where_that_is_wanted() {
    for (flags, expected) in [(FLAG_ANTI_LOOP, XDP_DROP), (FLAG_GUARD, XDP_PASS)] {
        let Some(mut world) = World::new(flags, 0) else {
            return;
        };
        let loops = Sent {
            destination: "2001:db8:8000:1ee::1",
            ..Sent::up("2001:db8:8000:100::1")
        };
        let to_other = Sent {
            destination: "2001:db8:8000:160::1",
            ..loops.clone()
        };

        // A lease that may not be forwarded to, as one with a network of this router inside it.
        let to_unrouted = Sent {
            destination: "2001:db8:8000:800::1",
            ..loops.clone()
        };

        assert_eq!(world.up(&loops).0, expected);
        assert_eq!(world.up(&to_other).0, XDP_PASS);
        assert_eq!(world.up(&to_unrouted).0, XDP_PASS);
    }
}

#[test]
fn programs_attach_to_both_sides_with_the_capabilities_of_the_daemon() {
    let Some(mut world) = World::new(FLAG_FORWARD, FLAG_FORWARD) else {
        return;
    };
    world
        .kernel
        .attach_named(maps::ACCESS_INGRESS, "access", XdpMode::Driver);
    world
        .kernel
        .attach_named(maps::CORE_INGRESS, "core", XdpMode::Driver);
}

/// Measures and asserts nothing about time:
/// `cargo test -p relay-tests --test kernel -- --ignored --nocapture guard_cost`
#[test]
#[ignore = "measures"]
fn guard_cost() {
    // The second has no way back.
    guard_costs("loaded with CAP_PERFMON", false);
    guard_costs("loaded without", true);
}

fn guard_costs(how: &str, is_confined: bool) {
    const ROUND: u32 = 100_000;
    let Some(mut world) = World::with(FLAG_GUARD | FLAG_ENFORCE, 0, is_confined) else {
        return;
    };
    let empty = Empty::load();
    let cases = [
        ("its address", Sent::up("2001:db8:100::10")),
        ("in its prefix", Sent::up("2001:db8:8000:1ff::1")),
        (
            "in its prefix, tagged",
            Sent::up("2001:db8:8000:600::1").tagged(100),
        ),
        ("link-local", Sent::up("fe80::1")),
        ("made up", Sent::up("2001:db8:dead::1")),
    ];
    let mut nanos: Vec<[Vec<u128>; 3]> = cases.iter().map(|_| Default::default()).collect();
    // Interleaved, so that a slow time of the machine meets all.
    for _ in 0..15 {
        for ((_, sent), nanos) in cases.iter().zip(&mut nanos) {
            let frame = sent.frame();
            nanos[0].push(empty.run_repeatedly(&frame, ROUND).as_nanos());
            for (data_path, nanos) in (0..).zip(nanos.iter_mut().skip(1)) {
                world.kernel.set_daemon(Daemon {
                    layout: LAYOUT,
                    quiet: 0,
                    heartbeat_boot_nanos: boot_nanos(),
                    ready: 1,
                    data_path,
                });
                let (_, duration, _) =
                    world
                        .kernel
                        .run_on(maps::ACCESS_INGRESS, world.access, &frame, ROUND);
                nanos.push(duration.as_nanos());
            }
        }
    }
    println!("{how}:");
    for ((what, _), nanos) in cases.iter().zip(&mut nanos) {
        let [passes, off, on] = nanos.each_mut().map(|nanos| {
            nanos.sort_unstable();
            nanos[nanos.len() / 2]
        });
        println!(
            "  {what:<24} only passes {passes} ns, guard off {off} ns, guard and counters {on} ns"
        );
    }
}
