//! The real daemon between real clients and real servers, each test in a lab of its own. Decides nothing of the
//! protocol; sees only what the wire, the kernel and the command line show.

mod binding_log;
mod capture;
mod clients;
mod face;
mod flap;
mod forged;
mod giving_up;
mod hand;
mod harness;
mod hostile;
mod ldra;
mod no_loss;
mod observe;
mod pcap;
mod prefixes;
mod probes;
mod reload;
mod restart;
mod routes;
mod servers;
mod store;
mod tags;
mod wire;
