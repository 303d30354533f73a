//! Any bytes through the option walker. The properties are in `relay_tests::fuzzing`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_tests::fuzzing::check_options;

fuzz_target!(|bytes: &[u8]| check_options(bytes));
