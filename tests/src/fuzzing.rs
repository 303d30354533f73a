//! What must hold for any bytes at all: the properties that the fuzz targets and the replay of
//! their corpora check. Each function takes raw bytes and panics where a property does not hold.
//!
//! Must not know where the bytes come from.

mod alq_stream;

pub use alq_stream::check_alq_stream;

use relay_common::classify::{Verdict, classify};
use relay_common::net::{TPID_8021Q, VlanTag, VlanTags};
use relay_common::priority::innermost;
use relay_core::input::Clear;
use relay_core::types::{AccessId, IfIndex};
use relay_core::wire::options::{MAX_OPTIONS, Options};

use crate::bench::{Bench, Client, RouteAnswer, SECOND, config};
use crate::messages::{self, Layer};

/// Frames: the verdict is total, its offsets lie in the frame, and a frame that is cut keeps its
/// verdict or becomes truncated, never something else.
pub fn check_classify(frame: &[u8]) {
    let verdict = classify(frame);
    if let Verdict::ToRelay(datagram) | Verdict::ToAddress(datagram) = verdict {
        let ip = usize::from(datagram.ip_offset);
        assert!(datagram.message_offset() <= frame.len());
        assert_eq!(ip, 14 + 4 * datagram.tags().len());
        assert_eq!((frame[ip] >> 4, frame[ip + 6]), (6, 17));
        assert_eq!(frame[ip + 24..ip + 40], datagram.destination);
        assert_eq!(frame[ip + 42..ip + 44], 547u16.to_be_bytes());
        assert_eq!(frame[6..12], datagram.source_mac);
        innermost(frame, &datagram);
    }
    for end in (0..frame.len()).rev().take(96) {
        match classify(&frame[..end]) {
            Verdict::Truncated => {}
            // Without its first octet a message has no type; only a RELAY-FORW is for an address.
            Verdict::NotDhcpv6 if matches!(verdict, Verdict::ToAddress(_)) => {}
            cut => assert_eq!(cut.name(), verdict.name(), "cut to {end}"),
        }
    }
}

/// Options: what the walker yields are the bytes themselves, in order and without a gap, and it
/// ends after an error.
pub fn check_options(bytes: &[u8]) {
    let mut walker = Options::new(bytes);
    let mut rebuilt = Vec::new();
    let mut count = 0;
    for item in walker.by_ref() {
        let Ok(option) = item else {
            assert!(walker.next().is_none(), "an error is the end");
            assert_eq!(bytes[..rebuilt.len()], rebuilt);
            return;
        };
        count += 1;
        rebuilt.extend(messages::option(option.code, option.data));
        let found = Options::new(bytes).find(option.code);
        assert!(found.is_ok_and(|found| found.is_some()), "found again");
        if count > 64 {
            // `find` from the start makes this quadratic; longer lists are told by their length.
            break;
        }
    }
    let rest = walker.filter(Result::is_ok).count();
    assert!(count + rest <= MAX_OPTIONS);
    assert_eq!(bytes[..rebuilt.len()], rebuilt);
}

/// Steps of one input to [`check_relay_message`].
const STEPS_MAX: usize = 48;
const BINDINGS_MAX: usize = 8;
const HELD_REPLIES_MAX: usize = 4;

/// Datagrams into the core: it does not panic, holds no more bindings and Replies than configured,
/// relays a client's bytes as they are (RLY-44) and sends a client only what a server sent.
///
/// ```text
/// 0      1        3
/// | step | length | data …   length is little-endian and clamped; repeated
/// ```
/// The low four bits of `step` say what happens, the high four to whom (client, interface, tag).
pub fn check_relay_message(bytes: &[u8]) {
    run_relay_message(bytes);
}

/// [`check_relay_message`]; the most bindings that there were at one time.
pub fn run_relay_message(bytes: &[u8]) -> usize {
    let mut limited = config();
    limited.limits.max_bindings = BINDINGS_MAX;
    limited.held_replies_max = HELD_REPLIES_MAX;
    for access in &mut limited.access {
        access.accept_relayed = true;
        access.accept_rsoo = true;
    }
    let mut world = World {
        bench: Bench::new(limited),
        last_forward: None,
        served: Vec::new(),
        bindings_seen: 0,
    };
    let mut rest = bytes;
    for _ in 0..STEPS_MAX {
        let Some(([step, low, high], data)) = rest.split_first_chunk() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(data.len());
        let (data, behind) = data.split_at(length);
        rest = behind;
        world.step(*step, data);
    }
    world.bench.advance(3600 * SECOND);
    world.check(None);
    world.bindings_seen
}

/// One step of [`check_relay_message`], for those who write its inputs.
pub fn relay_message_step(step: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("a datagram");
    [&[step][..], &length.to_le_bytes(), data].concat()
}

/// A client's message to the group.
pub const STEP_CLIENT: u8 = 0;
/// A downstream relay's message: source port 547, to an own address.
pub const STEP_RELAY: u8 = 1;
/// A datagram from the server.
pub const STEP_SERVER: u8 = 2;
/// The server answers the last RELAY-FORW with this message inside.
pub const STEP_ANSWER: u8 = 3;
/// So many seconds pass: two octets, little-endian.
pub const STEP_TIME: u8 = 4;
/// Bindings are cleared, of the interface or, with data, of this DUID.
pub const STEP_CLEAR: u8 = 5;
/// Route changes wait from now on; with data, they are answered at once again.
pub const STEP_ROUTES: u8 = 6;

/// What a server answers to the relay: our own layer as RELAY-REPL, around `inner`. Other than
/// [`messages::answer`] it leaves alone what is inside, which here need not be sound.
fn answer(forward: &[u8], inner: &[u8]) -> Vec<u8> {
    let layer = Layer::read(forward);
    let back = Layer::new(13, layer.hop_count, layer.link, layer.peer);
    let echoed = layer
        .options
        .iter()
        .filter(|(code, _)| matches!(code, 18 | 135));
    echoed
        .fold(back, |back, (code, data)| back.option(*code, data))
        .message(inner)
        .build()
}

struct World {
    bench: Bench,
    last_forward: Option<Vec<u8>>,
    served: Vec<Vec<u8>>,
    bindings_seen: usize,
}

impl World {
    fn step(&mut self, step: u8, data: &[u8]) {
        let who = step >> 4;
        let mut client = Client::new(u16::from(who & 3) + 1, u32::from(who >> 2 & 1) + 2);
        if who & 8 != 0 {
            client.vlans = VlanTags::single(VlanTag {
                tpid: TPID_8021Q,
                vid: 100,
            });
        }
        match step & 15 {
            STEP_CLIENT => {
                self.bench.client(&client, data);
                return self.check(Some(data));
            }
            STEP_RELAY => {
                client.port = 547;
                self.bench
                    .client_to(&client, messages::ip("2001:db8:1::1"), data);
                return self.check(Some(data));
            }
            STEP_SERVER => self.serve(data.to_vec()),
            STEP_ANSWER => {
                if let Some(forward) = &self.last_forward {
                    let room = usize::from(u16::MAX) - forward.len() - 64;
                    let answer = answer(forward, &data[..data.len().min(room)]);
                    self.serve(answer);
                }
            }
            STEP_TIME => {
                let seconds = match data {
                    [low, high, ..] => u16::from_le_bytes([*low, *high]),
                    _ => 1,
                };
                self.bench.advance(u32::from(seconds) * SECOND);
            }
            STEP_CLEAR if data.is_empty() => {
                let access = AccessId(u16::from(who & 1));
                self.bench.clear(Clear::Interface(access));
            }
            STEP_CLEAR => {
                self.bench.clear(Clear::Client(data.to_vec()));
            }
            STEP_ROUTES if data.is_empty() => self.bench.route_answer = RouteAnswer::Wait,
            STEP_ROUTES => {
                self.bench.route_answer = RouteAnswer::Now(Ok(()));
                self.bench.answer_routes(Ok(()));
            }
            _ => self.bench.input(relay_core::input::Input::Server(
                relay_core::input::ServerDatagram {
                    interface: IfIndex(9),
                    source: messages::ip("2001:db8:bad::1"),
                    source_port: 547,
                    payload: data,
                },
            )),
        }
        self.check(None);
    }

    fn serve(&mut self, datagram: Vec<u8>) {
        self.bench.server(&datagram);
        self.served.push(datagram);
    }

    fn check(&mut self, from_client: Option<&[u8]>) {
        for seen in self.bench.take() {
            let Some(message) = seen.message else {
                continue;
            };
            if seen.line.starts_with("to-server ") {
                let sent = from_client.expect("only a client's message goes to a server");
                if !sent.is_empty() && sent[0] != 12 {
                    assert_eq!(Layer::read(&message).inner(), sent, "RLY-44");
                }
                self.last_forward = Some(message);
            } else if seen.line.starts_with("to-client ") {
                let server_sent = |datagram: &Vec<u8>| {
                    datagram
                        .windows(message.len().max(1))
                        .any(|window| window == message)
                };
                assert!(
                    message.is_empty() || self.served.iter().any(server_sent),
                    "a client gets what a server sent"
                );
            }
        }
        let summary = self.bench.relay.summary();
        let bindings: usize = summary.active.iter().map(|(_, _, _, count)| count).sum();
        assert!(bindings <= BINDINGS_MAX, "{bindings} bindings");
        self.bindings_seen = self.bindings_seen.max(bindings);
        assert!(summary.clients <= BINDINGS_MAX);
        assert!(summary.held_replies <= HELD_REPLIES_MAX);
    }
}
