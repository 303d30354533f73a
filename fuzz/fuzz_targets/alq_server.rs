//! Anything that peers may ask. The property is in `relay_tests::fuzzing_alq_server`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_tests::fuzzing_alq_server::check_alq_server;

fuzz_target!(|bytes: &[u8]| check_alq_server(bytes));
