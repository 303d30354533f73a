//! The real daemon between real clients and real servers, each test in a lab of its own. Decides nothing of the
//! protocol; sees only what the wire, the kernel and the command line show.

mod binding_log;
mod capture;
mod face;
mod flap;
mod forged;
mod hand;
mod harness;
mod hostile;
mod ldra;
mod ldra_device;
mod leasequery;
mod life;
mod limits;
mod naps;
mod no_loss;
mod observe;
mod openssl;
mod pair;
mod pcap;
mod probes;
mod reload;
mod restart;
mod routes;
mod servers;
mod sockets;
mod store;
mod tags;
mod twins;
mod twins_clear;
mod twins_tls;
mod wire;
mod wired;
mod wrong;
mod wrong_requestor;
mod wrong_server;
