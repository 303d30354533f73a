//! The kernel programs, run on bytes: verifier acceptance, what becomes of frames, limits, layouts
//! and costs. Needs root and a built object; without them each test counts as skipped.

mod attached;
mod capture;
mod corpus;
mod cost;
mod empty;
mod harness;
mod layouts;
mod limits;
mod privileges;
mod subscriber;
mod subscriber_frames;
