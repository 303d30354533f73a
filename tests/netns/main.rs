//! The real daemon between real clients and real servers, each test in a lab of its own. Decides nothing of the
//! protocol; sees only what the wire, the kernel and the command line show.

mod capture;
mod clients;
mod face;
mod harness;
mod tags;
mod wire;
