//! One relay in virtual time against the requirements of the standards, one test each.
//!
//! Written from the RFCs and the requirement IDs; must not know how the core is made.

mod alq_catch_up;
mod alq_requestor;
mod alq_server;
mod alq_trouble;
mod alq_twins;
mod alq_unsound;
mod alq_whole;
mod blq_requestor;
mod blq_server;
mod giving_up;
mod holding;
mod lq_requestor;
mod operations;
mod over_limit;
mod prefix_delegation;
mod relay;
mod relay_options;
mod relayed;
mod replies;
mod route_policy;
mod snooping;
mod surroundings;
mod validity;
mod with_leases;
