//! Any sequence of datagrams through the relay. The properties are in `relay_tests::fuzzing`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_tests::fuzzing::check_relay_message;

fuzz_target!(|bytes: &[u8]| check_relay_message(bytes));
