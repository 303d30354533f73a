//! OpenSSL as the other end of STARTTLS: a second TLS library, which begins on a connection over which a test has
//! said the STARTTLS itself. Bytes go through a pair of sockets on loopback, because `openssl` takes no connection
//! that somebody else has opened.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use relay_tests::alq_peer::Transport;
use xtask::lab::wait_for;

/// A read that takes longer is tried again, so that whoever reads can look at the clock.
const READ_FOR: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);

/// Who OpenSSL is, and whom it accepts.
pub(crate) struct Identity<'a> {
    /// The folder of `ca.pem`, `NAME.pem` and `NAME.key`.
    pub(crate) folder: &'a Path,
    /// Whose certificate it shows.
    pub(crate) name: &'a str,
    /// The name that the other end's certificate has to bear.
    pub(crate) peer: &'a str,
}

/// A running `openssl`; what it decrypts comes out, what goes in it encrypts.
struct OpenSsl {
    process: Child,
    decrypted: Receiver<Vec<u8>>,
    rest: Vec<u8>,
}

impl Identity<'_> {
    /// TLS begins, with OpenSSL as the client.
    pub(crate) fn client(&self, connection: TcpStream) -> Result<Box<dyn Transport>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let to = listener.local_addr()?.to_string();
        let mut command = self.command("s_client");
        command.args(["-connect", &to, "-verify_hostname", self.peer]);
        let transport = OpenSsl::spawn(command)?;
        let (inside, _) = listener.accept()?;
        carry(connection, inside)?;
        Ok(Box::new(transport))
    }

    /// TLS begins, with OpenSSL as the server.
    pub(crate) fn server(&self, connection: TcpStream) -> Result<Box<dyn Transport>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = self.command("s_server");
        command.args([
            "-accept",
            &port.to_string(),
            "-naccept",
            "1",
            "-Verify",
            "2",
        ]);
        let transport = OpenSsl::spawn(command)?;
        let connect = || TcpStream::connect(("127.0.0.1", port)).ok();
        let inside = wait_for("openssl s_server", PATIENCE, connect).map_err(anyhow::Error::msg)?;
        carry(connection, inside)?;
        Ok(Box::new(transport))
    }

    fn command(&self, verb: &str) -> Command {
        let file = |name: &str| self.folder.join(name);
        let mut command = Command::new("openssl");
        command.args([verb, "-quiet", "-verify_return_error", "-CAfile"]);
        command.arg(file("ca.pem"));
        command
            .arg("-cert")
            .arg(file(&format!("{}.pem", self.name)));
        command.arg("-key").arg(file(&format!("{}.key", self.name)));
        command
    }
}

/// Both ways between the connection to the relay and OpenSSL, until either ends.
fn carry(outside: TcpStream, inside: TcpStream) -> Result<()> {
    for (mut from, mut to) in [
        (outside.try_clone()?, inside.try_clone()?),
        (inside, outside),
    ] {
        std::thread::spawn(move || {
            let _ = copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}

/// Whoever else holds the connection sets time limits for reading, which are nobody's end here.
fn copy(from: &mut TcpStream, to: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16_384];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => to.write_all(&buffer[..len])?,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}

impl OpenSsl {
    fn spawn(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.stderr(Stdio::null()).spawn().context("openssl")?;
        let mut output = process.stdout.take().context("its output is a pipe")?;
        let (sender, decrypted) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 16_384];
            while let Ok(len) = output.read(&mut buffer)
                && len > 0
                && sender.send(buffer[..len].to_vec()).is_ok()
            {}
        });
        let rest = Vec::new();
        Ok(Self {
            process,
            decrypted,
            rest,
        })
    }
}

impl Read for OpenSsl {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.decrypted.recv_timeout(READ_FOR) {
                Ok(bytes) => self.rest = bytes,
                Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::TimedOut.into()),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let len = self.rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.rest[..len]);
        self.rest.drain(..len);
        Ok(len)
    }
}

impl Write for OpenSsl {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.process
            .stdin
            .as_mut()
            .expect("it is a pipe")
            .write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.process.stdin.as_mut().expect("it is a pipe").flush()
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
