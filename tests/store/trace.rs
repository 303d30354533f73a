//! Reads what strace recorded: system calls on files, in the order in which they ended. Knows nothing
//! of what they do to a disk.

use std::collections::HashMap;

/// A system call that changes or syncs a file or folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// A file came to be.
    Create(String),
    Write(String, Vec<u8>),
    /// Its number: what was written before it began is on disk when it ends.
    SyncBegins(u64),
    Sync(u64, String),
    Rename(String, String),
    Unlink(String),
    Mkdir(String),
}

/// All calls of all threads. Panics at a call that it does not know: the replay would be wrong.
pub fn parse(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    // By thread: the begin of a call that was interrupted by another thread's.
    let mut unfinished: HashMap<&str, (String, u64)> = HashMap::new();
    let mut number = 0;
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').unwrap_or(("", line));
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        number += 1;
        if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
            if is_sync(begin) {
                calls.push(Call::SyncBegins(number));
            }
            unfinished.insert(thread, (begin.trim_end().to_owned(), number));
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            let (begin, number) = unfinished.remove(thread).unwrap_or_default();
            calls.extend(call(&format!("{begin}{end}"), number));
        } else {
            if is_sync(rest) {
                calls.push(Call::SyncBegins(number));
            }
            calls.extend(call(rest, number));
        }
    }
    calls
}

fn is_sync(line: &str) -> bool {
    line.starts_with("fsync(") || line.starts_with("fdatasync(")
}

fn call(line: &str, number: u64) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if result.starts_with('-') || result.starts_with('?') {
        return None;
    }
    let strings = strings(arguments);
    let string = |at: usize| String::from_utf8_lossy(&strings[at]).into_owned();
    let descriptor = || descriptor(arguments);
    Some(match name {
        "openat" if arguments.contains("O_CREAT") => Call::Create(string(0)),
        "openat" | "close" => return None,
        "write" => {
            let length: usize = result.trim().parse().expect("a write tells its length");
            Call::Write(descriptor(), strings[0][..length].to_vec())
        }
        "fsync" | "fdatasync" => Call::Sync(number, descriptor()),
        "rename" => Call::Rename(string(0), string(1)),
        "renameat" | "renameat2" => Call::Rename(string(0), string(1)),
        "unlink" | "unlinkat" => Call::Unlink(string(0)),
        "mkdir" | "mkdirat" => Call::Mkdir(string(0)),
        // The lock file's, which is no part of the store.
        "ftruncate" if descriptor().ends_with("/lock") => return None,
        _ => panic!("a call that the replay does not know: {name}"),
    })
}

/// The path behind the descriptor: `3<\x2f…>`.
fn descriptor(arguments: &str) -> String {
    let path = arguments
        .split_once('<')
        .and_then(|(_, it)| it.split_once('>'));
    let path = path.map(|(it, _)| it).expect("strace -y shows the path");
    String::from_utf8_lossy(&unescape(path)).into_owned()
}

/// Everything in quotes.
fn strings(arguments: &str) -> Vec<Vec<u8>> {
    let quoted = arguments.split('"').skip(1).step_by(2);
    quoted.map(unescape).collect()
}

/// `\x41\x42…`, or plain text.
fn unescape(text: &str) -> Vec<u8> {
    if !text.starts_with("\\x") {
        return text.as_bytes().to_vec();
    }
    let digits = text.split("\\x").skip(1);
    let byte = |digits: &str| u8::from_str_radix(digits, 16).expect("strace -xx writes hex");
    digits.map(byte).collect()
}

#[test]
fn calls_are_read_also_when_threads_interleave() {
    let text = "7 openat(AT_FDCWD</a>, \"\\x2f\\x61\", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3</a>\n\
                7 write(3<\\x2f\\x61>, \"\\x01\\x02\", 2) = 2\n\
                7 fdatasync(3<\\x2f\\x61> <unfinished ...>\n\
                8 unlink(\"\\x2f\\x62\") = 0\n\
                7 <... fdatasync resumed>) = 0\n\
                8 unlink(\"\\x2f\\x63\") = -1 ENOENT (No such file or directory)\n\
                8 +++ exited with 0 +++\n";

    let path = || "/a".to_owned();
    let expected = [
        Call::Create(path()),
        Call::Write(path(), vec![1, 2]),
        Call::SyncBegins(3),
        Call::Unlink("/b".to_owned()),
        Call::Sync(3, path()),
    ];
    assert_eq!(parse(text), expected);
}
