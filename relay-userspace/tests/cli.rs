//! The built binary: exit codes, one line on standard error, what is printed where.

use std::process::{Command, Output};

fn twinrelay(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twinrelay"))
        .args(words)
        .stdin(std::process::Stdio::null())
        .env_remove("COLUMNS")
        .output()
        .expect("the binary was built with this test")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it is text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("it is text")
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("twinrelay.toml");
    std::fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("it is text").to_owned();
    (dir, path)
}

const SMALLEST: &str = "[[server]]\naddress = \"2001:db8:ff::11\"\n\n[[access]]\ninterface = \
                        \"acc0\"\n\n[[core]]\ninterface = \"core0\"\n";

#[test]
fn check_of_a_sound_file_says_so_and_exits_0() {
    let (_dir, path) = file(SMALLEST);

    let output = twinrelay(&["check", "-c", &path]);

    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), format!("{path} is fine\n"));
    assert_eq!(stderr(&output), "");
}

#[test]
fn check_of_the_example_is_fine() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/twinrelay.toml");

    let output = twinrelay(&["check", "--config", example]);

    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), "")
    );
}

#[test]
fn check_of_a_broken_file_quotes_the_line_and_exits_2() {
    let (_dir, path) = file(&SMALLEST.replace("address", "adress"));

    let output = twinrelay(&["check", "-c", &path]);

    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    insta::assert_snapshot!(stderr(&output).replace(&path, "twinrelay.toml"));
}

#[test]
fn check_of_a_file_with_a_warning_exits_0_and_tells_it() {
    let (_dir, path) = file(&format!("{SMALLEST}[routes]\nmetric = 1024\n"));

    let output = twinrelay(&["check", "-c", &path]);

    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr(&output).starts_with("warning: metric 1024"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn run_with_a_broken_file_does_not_start_and_exits_2() {
    let (_dir, path) = file("[[server]]\n");

    let output = twinrelay(&["run", "-c", &path]);

    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("[[server]] has no `address`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn run_with_a_feature_of_a_later_release_does_not_start() {
    let (_dir, path) = file(&format!(
        "{SMALLEST}[[access]]\ninterface = \"acc1\"\nanti_loop = \"icmp\"\n"
    ));

    let output = twinrelay(&["run", "-c", &path]);

    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("is not in this release"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn verbs_without_a_daemon_exit_3_with_one_line_that_says_what_to_do() {
    for verb in [
        &["show", "bindings"][..],
        &["show", "version", "--json"],
        &["clear", "statistics"],
        &["clear", "binding", "2001:db8::/56"],
        &["monitor"],
    ] {
        let words = [verb, &["--socket", "/nonexistent/control.sock"]].concat();

        let output = twinrelay(&words);

        assert_eq!(output.status.code(), Some(3), "{verb:?}");
        assert_eq!(stdout(&output), "");
        let error = stderr(&output);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("start `twinrelay run`"), "{error}");
    }
}

#[test]
fn show_finds_the_socket_in_the_run_dir_of_the_file() {
    let (_dir, path) = file(&format!(
        "{SMALLEST}[relay]\nrun_dir = \"/nonexistent/here\"\n"
    ));

    let output = twinrelay(&["show", "version", "-c", &path]);

    assert_eq!(output.status.code(), Some(3));
    let error = stderr(&output);
    assert!(error.contains("/nonexistent/here/control.sock"), "{error}");
}

#[test]
fn usage_errors_exit_2() {
    for words in [
        &["show"][..],
        &["sohw", "bindings"],
        &["show", "bindings", "--prefix", "2001:db8::1/56"],
        &["show", "bindings", "--mac", "02:00"],
        &["show", "bindings", "--state", "dead"],
        &["clear", "binding"],
    ] {
        assert_eq!(twinrelay(words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn completions_and_manual_pages_are_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_str().expect("it is text");

    let bash = twinrelay(&["completions", "bash"]);
    let man = twinrelay(&["man", path]);

    assert!(
        stdout(&bash).contains("complete -F _twinrelay"),
        "{}",
        stdout(&bash)
    );
    assert_eq!(man.status.code(), Some(0), "{}", stderr(&man));
    assert!(dir.path().join("twinrelay-show-bindings.1").exists());
    let nowhere = twinrelay(&["man", "/nonexistent/folder"]);
    assert_eq!(nowhere.status.code(), Some(2));
}

#[test]
fn help_names_every_verb() {
    let output = twinrelay(&["--help"]);

    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn version_of_the_binary_is_that_of_the_package() {
    let output = twinrelay(&["--version"]);

    assert_eq!(
        stdout(&output),
        concat!("twinrelay ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
