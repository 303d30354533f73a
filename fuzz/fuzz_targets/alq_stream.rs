//! Any stream on a leasequery connection. The properties are in `relay_tests::fuzzing`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_tests::fuzzing::check_alq_stream;

fuzz_target!(|bytes: &[u8]| check_alq_stream(bytes));
