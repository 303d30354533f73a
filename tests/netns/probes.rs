//! Probes from the Internet host to two addresses of a home, 200 a second to each or faster, every one of them
//! remembered with the time it left: so a test can say which of them had to arrive.

use crate::hand::on_node;
use relay_tests::messages::ip;
use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xtask::lab::Lab;

const PORT: u16 = 7777;
const INTERVAL: Duration = Duration::from_millis(5);
/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1);

/// One probe.
pub(crate) struct Probe {
    /// Which of the targets.
    pub(crate) target: usize,
    /// When it left.
    pub(crate) sent: Instant,
    /// Whether it came back.
    pub(crate) answered: bool,
}

/// A stream of probes.
pub(crate) struct Probes {
    sending: Arc<AtomicBool>,
    listening: Arc<AtomicBool>,
    sender: JoinHandle<Vec<Instant>>,
    listener: JoinHandle<HashSet<u32>>,
    echo: JoinHandle<()>,
}

impl Probes {
    /// Begins; the home answers on whatever addresses it has.
    pub(crate) fn start(lab: &Lab, home: &str, targets: [&str; 2]) -> Self {
        Self::start_every(INTERVAL, lab, home, targets)
    }

    /// The same, one to each target in this time.
    pub(crate) fn start_every(
        interval: Duration,
        lab: &Lab,
        home: &str,
        targets: [&str; 2],
    ) -> Self {
        let socket = |node| {
            let bound = on_node(lab, node, || UdpSocket::bind((ip("::"), PORT)));
            let socket = bound.expect("nobody else has the port");
            socket
                .set_read_timeout(Some(Duration::from_millis(50)))
                .expect("a time-out is accepted");
            socket
        };
        let (home, internet) = (socket(home), socket("inet"));
        let again = internet.try_clone().expect("a socket can be had twice");
        let sending = Arc::new(AtomicBool::new(true));
        let listening = Arc::new(AtomicBool::new(true));
        let (goes_on, listens, echoes) = (
            Arc::clone(&sending),
            Arc::clone(&listening),
            Arc::clone(&listening),
        );
        let targets = targets.map(ip);
        Self {
            sender: std::thread::spawn(move || {
                let mut sent = Vec::new();
                let mut next = Instant::now();
                while goes_on.load(Ordering::Relaxed) {
                    for target in targets {
                        let number = u32::try_from(sent.len()).expect("few probes");
                        sent.push(Instant::now());
                        // Without a route on the way an error may come back; that probe is lost.
                        let _ = internet.send_to(&number.to_be_bytes(), (target, PORT));
                    }
                    // On a busy machine it wakes late; the next ones are not late with it.
                    next += interval;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                sent
            }),
            listener: std::thread::spawn(move || {
                let mut seen = HashSet::new();
                let mut number = [0; 4];
                while listens.load(Ordering::Relaxed) {
                    if again.recv_from(&mut number).is_ok() {
                        seen.insert(u32::from_be_bytes(number));
                    }
                }
                seen
            }),
            echo: std::thread::spawn(move || {
                let mut number = [0; 4];
                while echoes.load(Ordering::Relaxed) {
                    if let Ok((_, from)) = home.recv_from(&mut number) {
                        // A home without an address cannot answer: that probe is lost.
                        let _ = home.send_to(&number, from);
                    }
                }
            }),
            sending,
            listening,
        }
    }

    /// Ends, once late answers had their time.
    pub(crate) fn finish(self) -> Vec<Probe> {
        self.sending.store(false, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender ends");
        std::thread::sleep(PATIENCE);
        self.listening.store(false, Ordering::Relaxed);
        let answered = self.listener.join().expect("the listener ends");
        self.echo.join().expect("the home ends");
        (0u32..)
            .zip(sent)
            .map(|(number, sent)| Probe {
                target: (number % 2) as usize,
                sent,
                answered: answered.contains(&number),
            })
            .collect()
    }
}
