//! Probes between the Internet host and every home, to its address and into its prefix, both ways, 125 a second each.
//! Every one has a number, and both ends are here: so what is lost is known for each way alone, and when it left.

use super::command::Result;
use super::twins::Home;
use super::{Lab, wait_for};
use std::net::{Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERNET: &str = "inet";
const INTERNET_ADDRESS: &str = "2001:db8:1::99";
const PORT: u16 = 7788;
/// Between two probes of a stream.
pub const INTERVAL: Duration = Duration::from_millis(8);
/// How long a probe may take on a busy machine.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Lost probes that are less than this apart are one gap.
const GAP: Duration = Duration::from_millis(100);
/// How long an address that was leased may take to be usable.
const USABLE: Duration = Duration::from_secs(5);

/// Which way a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the Internet to the home.
    Inward,
    /// From the home to the Internet.
    Outward,
}

/// What of the home it goes to or comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The address of its uplink.
    Address,
    /// Its delegated prefix.
    Prefix,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Inward, Self::Outward];

    /// For people and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inward => "inward",
            Self::Outward => "outward",
        }
    }
}

impl Target {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Address, Self::Prefix];

    /// For people and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Prefix => "prefix",
        }
    }
}

/// One probe: when it left, and how often it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// After the begin of the record.
    pub sent: Duration,
    /// 0: lost. 2: two routers forwarded it.
    pub arrived: u8,
}

/// All probes between one home's address or prefix and the Internet host, one way.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The node.
    pub home: &'static str,
    /// Which way.
    pub direction: Direction,
    /// Address or prefix.
    pub target: Target,
    /// The home's end.
    pub address: String,
    /// In the order in which they left.
    pub probes: Vec<Probe>,
}

/// How many were sent, and how many of these are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub sent: usize,
    /// Those that never arrived.
    pub lost: usize,
}

/// What became of all probes.
#[derive(Clone, Debug)]
pub struct Record {
    /// Three homes, two ways, two targets.
    pub streams: Vec<Stream>,
}

/// Probes under way.
pub struct Probes {
    begin: Instant,
    sending: Arc<AtomicBool>,
    listening: Arc<AtomicBool>,
    streams: Vec<Stream>,
    senders: Vec<JoinHandle<Vec<Sent>>>,
    listeners: Vec<JoinHandle<Vec<(u16, u32)>>>,
}

impl Probes {
    /// Begins; the homes have their leases.
    pub fn start(lab: &Lab, homes: &[Home]) -> Result<Self> {
        let mut probes = Self {
            begin: Instant::now(),
            sending: Arc::new(AtomicBool::new(true)),
            listening: Arc::new(AtomicBool::new(true)),
            streams: Vec::new(),
            senders: Vec::new(),
            listeners: Vec::new(),
        };
        let internet: Ipv6Addr = parse(INTERNET_ADDRESS)?;
        let everywhere = bound(lab, INTERNET, Ipv6Addr::UNSPECIFIED, PORT)?;
        probes.listen(&everywhere)?;
        let mut from_internet = Vec::new();
        for home in homes {
            let node = home.client.node();
            let socket = bound(lab, node, Ipv6Addr::UNSPECIFIED, PORT)?;
            probes.listen(&socket)?;
            let mut from_home = Vec::new();
            for (target, text) in [
                (Target::Address, &home.address),
                (Target::Prefix, &home.lan),
            ] {
                let address = parse(text)?;
                for direction in Direction::ALL {
                    let number = probes.streams.len();
                    match direction {
                        Direction::Inward => from_internet.push(Way {
                            number,
                            socket: again(&everywhere)?,
                            to: address,
                        }),
                        // The source address says whose probe it is, and what a guard looks at.
                        Direction::Outward => from_home.push(Way {
                            number,
                            socket: bound(lab, node, address, 0)?,
                            to: internet,
                        }),
                    }
                    probes.streams.push(Stream {
                        home: node,
                        direction,
                        target,
                        address: text.clone(),
                        probes: Vec::new(),
                    });
                }
            }
            probes.send(from_home);
        }
        probes.send(from_internet);
        Ok(probes)
    }

    /// The time since the begin, as in the record.
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// When they began.
    pub fn begin(&self) -> Instant {
        self.begin
    }

    /// Ends, once late ones had their time.
    pub fn finish(mut self) -> Record {
        self.sending.store(false, Ordering::Relaxed);
        for sender in self.senders {
            for (number, sent) in sender.join().expect("a sender ends by itself") {
                let probe = |sent| Probe { sent, arrived: 0 };
                self.streams[number].probes = sent.into_iter().map(probe).collect();
            }
        }
        std::thread::sleep(PATIENCE);
        self.listening.store(false, Ordering::Relaxed);
        for listener in self.listeners {
            for (number, at) in listener.join().expect("a listener ends by itself") {
                let stream = self.streams.get_mut(usize::from(number));
                let probe = stream.and_then(|it| it.probes.get_mut(at as usize));
                if let Some(probe) = probe {
                    probe.arrived = probe.arrived.saturating_add(1);
                }
            }
        }
        Record {
            streams: self.streams,
        }
    }

    fn listen(&mut self, socket: &UdpSocket) -> Result<()> {
        let socket = again(socket)?;
        let listens = Arc::clone(&self.listening);
        self.listeners.push(std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut bytes = [0; 6];
            while listens.load(Ordering::Relaxed) {
                if let Ok(6) = socket.recv(&mut bytes) {
                    let [a, b, c, d, e, f] = bytes;
                    seen.push((u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])));
                }
            }
            seen
        }));
        Ok(())
    }

    fn send(&mut self, ways: Vec<Way>) {
        let goes_on = Arc::clone(&self.sending);
        let begin = self.begin;
        self.senders.push(std::thread::spawn(move || {
            let mut sent: Vec<Sent> = ways.iter().map(|way| (way.number, Vec::new())).collect();
            let mut next = Instant::now();
            while goes_on.load(Ordering::Relaxed) {
                for (way, (_, sent)) in ways.iter().zip(&mut sent) {
                    let stream = u16::try_from(way.number).expect("a dozen streams");
                    let at = u32::try_from(sent.len()).expect("some minutes");
                    let [a, b] = stream.to_be_bytes();
                    let [c, d, e, f] = at.to_be_bytes();
                    sent.push(begin.elapsed());
                    // What cannot leave is lost like any other.
                    let _ = way.socket.send_to(&[a, b, c, d, e, f], (way.to, PORT));
                }
                // On a busy machine it wakes late; the next ones are not late with it.
                next += INTERVAL;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            sent
        }));
    }
}

/// The number of a stream, and when its probes left.
type Sent = (usize, Vec<Duration>);

/// Where a sender sends the probes of a stream from and to.
struct Way {
    number: usize,
    socket: UdpSocket,
    to: Ipv6Addr,
}

fn parse(text: &str) -> Result<Ipv6Addr> {
    text.parse()
        .map_err(|_| format!("{text:?} is no IPv6 address"))
}

fn again(socket: &UdpSocket) -> Result<UdpSocket> {
    socket
        .try_clone()
        .map_err(|error| format!("a socket for probes: {error}"))
}

/// A socket of a node, once it has the address.
fn bound(lab: &Lab, node: &str, address: Ipv6Addr, port: u16) -> Result<UdpSocket> {
    let mut last = String::new();
    let socket = wait_for("", USABLE, || {
        match lab.inside(node, || UdpSocket::bind((address, port))) {
            Ok(Ok(socket)) => Some(socket),
            Ok(Err(error)) => {
                last = error.to_string();
                None
            }
            Err(error) => {
                last = error;
                None
            }
        }
    })
    .map_err(|_| format!("{node}: cannot bind [{address}]:{port}: {last}"))?;
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .map_err(|error| error.to_string())?;
    Ok(socket)
}

impl Stream {
    /// What was sent in this time, and lost.
    pub fn count(&self, from: Duration, until: Duration) -> Count {
        let within = |it: &&Probe| from <= it.sent && it.sent < until;
        let probes = self.probes.iter().filter(within);
        probes.fold(Count::default(), |count, it| Count {
            sent: count.sent + 1,
            lost: count.lost + usize::from(it.arrived == 0),
        })
    }

    /// The times in which probes were lost: the first and the last of each gap, and how many.
    pub fn gaps(&self) -> Vec<(Duration, Duration, usize)> {
        let mut gaps: Vec<(Duration, Duration, usize)> = Vec::new();
        for probe in self.probes.iter().filter(|it| it.arrived == 0) {
            match gaps.last_mut() {
                Some((_, last, lost)) if probe.sent - *last < GAP => {
                    *last = probe.sent;
                    *lost += 1;
                }
                _ => gaps.push((probe.sent, probe.sent, 1)),
            }
        }
        gaps
    }

    /// How many arrived more than once.
    pub fn duplicates(&self) -> usize {
        self.probes.iter().filter(|it| it.arrived > 1).count()
    }
}

impl Record {
    /// What went this way to or from this, of all homes together, in this time.
    pub fn count(
        &self,
        direction: Direction,
        target: Target,
        from: Duration,
        until: Duration,
    ) -> Count {
        let streams = self.streams.iter();
        let ours = streams.filter(|it| it.direction == direction && it.target == target);
        ours.map(|it| it.count(from, until))
            .fold(Count::default(), |sum, it| Count {
                sent: sum.sent + it.sent,
                lost: sum.lost + it.lost,
            })
    }

    /// How many probes were lost at most on one stream in this time, and how many all streams lost.
    pub fn lost(&self, from: Duration, until: Duration) -> (usize, usize) {
        let lost = self.streams.iter().map(|it| it.count(from, until).lost);
        (lost.clone().max().unwrap_or(0), lost.sum())
    }

    /// When the last probe left.
    pub fn end(&self) -> Duration {
        let last = |it: &Stream| it.probes.last().map(|probe| probe.sent);
        self.streams
            .iter()
            .filter_map(last)
            .max()
            .unwrap_or_default()
    }

    /// One row for each stream, for people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<6} {:<8} {:<8} {:<24} {:>7} {:>6}  gaps\n",
            "HOME", "WAY", "TO/FROM", "ADDRESS", "SENT", "LOST"
        );
        for stream in &self.streams {
            let count = stream.count(Duration::ZERO, Duration::MAX);
            let gaps = stream.gaps().into_iter().map(|(from, until, lost)| {
                let took = (until - from + INTERVAL).as_secs_f64();
                format!("{lost} from {:.2} s for {took:.2} s", from.as_secs_f64())
            });
            text += &format!(
                "{:<6} {:<8} {:<8} {:<24} {:>7} {:>6}  {}\n",
                stream.home,
                stream.direction.name(),
                stream.target.name(),
                stream.address,
                count.sent,
                count.lost,
                gaps.collect::<Vec<_>>().join(", ")
            );
        }
        text
    }

    /// All of it but the single probe: totals, gaps, and sent and lost in each tenth of a second.
    pub fn json(&self) -> String {
        let streams = self.streams.iter().map(|stream| {
            let count = stream.count(Duration::ZERO, Duration::MAX);
            let gaps = stream.gaps().into_iter().map(|(from, until, lost)| {
                let (from, until) = (from.as_secs_f64(), until.as_secs_f64());
                format!("{{\"from\":{from:.3},\"until\":{until:.3},\"lost\":{lost}}}")
            });
            let tenths = self.tenths().map(|(from, until)| {
                let count = stream.count(from, until);
                format!("[{},{}]", count.sent, count.lost)
            });
            format!(
                "{{\"home\":\"{}\",\"direction\":\"{}\",\"target\":\"{}\",\"address\":\"{}\",\"sent\":{},\"lost\":{},\
                 \"duplicates\":{},\"gaps\":[{}],\"tenths\":[{}]}}",
                stream.home,
                stream.direction.name(),
                stream.target.name(),
                stream.address,
                count.sent,
                count.lost,
                stream.duplicates(),
                gaps.collect::<Vec<_>>().join(","),
                tenths.collect::<Vec<_>>().join(",")
            )
        });
        format!(
            "{{\"interval_ms\":{},\"streams\":[{}]}}\n",
            INTERVAL.as_millis(),
            streams.collect::<Vec<_>>().join(",\n")
        )
    }

    /// The record's time, in tenths of a second.
    pub fn tenths(&self) -> impl Iterator<Item = (Duration, Duration)> + use<> {
        let tenth = Duration::from_millis(100);
        let many = self.end().as_millis() / 100 + 1;
        (0..u32::try_from(many).unwrap_or(u32::MAX)).map(move |at| (tenth * at, tenth * (at + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(arrived: &[u8]) -> Stream {
        let probe = |(at, arrived): (u32, &u8)| Probe {
            sent: INTERVAL * at,
            arrived: *arrived,
        };
        Stream {
            home: "cpe1",
            direction: Direction::Inward,
            target: Target::Prefix,
            address: "2001:db8:d000::1".into(),
            probes: (0..).zip(arrived).map(probe).collect(),
        }
    }

    #[test]
    fn lost_probes_near_each_other_are_one_gap() {
        let mut arrived = vec![1; 60];
        for lost in [3, 4, 6, 50] {
            arrived[lost] = 0;
        }

        let gaps = stream(&arrived).gaps();

        assert_eq!(
            gaps,
            [
                (INTERVAL * 3, INTERVAL * 6, 3),
                (INTERVAL * 50, INTERVAL * 50, 1)
            ]
        );
    }

    #[test]
    fn count_is_of_the_probes_that_left_within_the_time() {
        let stream = stream(&[0, 1, 0, 2]);

        let count = stream.count(INTERVAL, INTERVAL * 3);

        assert_eq!(count, Count { sent: 2, lost: 1 });
        assert_eq!(stream.duplicates(), 1);
    }

    #[test]
    fn json_has_totals_gaps_and_tenths() {
        let record = Record {
            streams: vec![stream(&[1, 0, 1])],
        };

        let json = record.json();

        assert!(
            json.contains("\"sent\":3,\"lost\":1,\"duplicates\":0"),
            "{json}"
        );
        assert!(json.contains("\"gaps\":[{\"from\":0.008,\"until\":0.008,\"lost\":1}]"));
        assert!(json.contains("\"tenths\":[[3,1]]"), "{json}");
    }
}
