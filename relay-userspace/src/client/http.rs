//! HTTP/1.1 over the unix socket. Decides what counts as unreachable and what as refused; knows
//! no resource.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Failure;

/// A daemon that answers at all begins to within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where a daemon listens.
#[derive(Debug)]
pub(super) struct Daemon {
    socket: PathBuf,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

type Words<'w> = &'w [(&'static str, String)];

impl Daemon {
    pub(super) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The whole answer.
    pub(super) async fn get(&self, path: &str, words: Words<'_>) -> Result<Bytes, Failure> {
        self.whole(Method::GET, path, words).await
    }

    /// The whole answer.
    pub(super) async fn post(
        &self,
        path: &str,
        words: &[(&str, String)],
    ) -> Result<Bytes, Failure> {
        self.whole(Method::POST, path, words).await
    }

    /// An answer to be read piece by piece.
    pub(super) async fn stream(&self, path: &str, words: Words<'_>) -> Result<Answer, Failure> {
        let response = self.request(Method::GET, path, words).await?;
        Ok(Answer(response.into_body()))
    }

    async fn whole(
        &self,
        method: Method,
        path: &str,
        words: &[(&str, String)],
    ) -> Result<Bytes, Failure> {
        let response = self.request(method, path, words).await?;
        let body = response.into_body().collect().await;
        Ok(body.map_err(broken_off)?.to_bytes())
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        words: &[(&str, String)],
    ) -> Result<Response<Incoming>, Failure> {
        let answered = tokio::time::timeout(ANSWER_WITHIN, self.ask(method, path, words)).await;
        let response =
            answered.map_err(|_| self.unreachable("it does not answer", "look at its log"))??;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken_off)?;
        let error = serde_json::from_slice(&body.to_bytes()).map_or_else(
            |_| format!("the daemon answered {status}"),
            |it: Refused| it.error,
        );
        Err(match status {
            StatusCode::NOT_FOUND => Failure::No(error),
            _ => Failure::Refused(error),
        })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        words: &[(&str, String)],
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            let what_to_do = match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "become root, or a member of the group twinrelay"
                }
                _ => "start `twinrelay run`, or name its socket with --socket or its file with -c",
            };
            self.unreachable(&error.to_string(), what_to_do)
        })?;
        let broken = |error: hyper::Error| {
            self.unreachable(&error.to_string(), "is this the socket of twinrelay?")
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{}", query(words)))
            .header(hyper::header::HOST, "twinrelay")
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure::Usage(error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    }

    fn unreachable(&self, why: &str, what_to_do: &str) -> Failure {
        let socket = self.socket.display();
        Failure::Unreachable(format!(
            "cannot reach the daemon at {socket}: {why}; {what_to_do}"
        ))
    }
}

fn broken_off(error: hyper::Error) -> Failure {
    Failure::Unreachable(format!(
        "the daemon broke its answer off: {error}; ask again, and look at its log"
    ))
}

/// Pieces of an answer.
#[derive(Debug)]
pub(super) struct Answer(Incoming);

impl Answer {
    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let Some(frame) = self.0.frame().await else {
                return Ok(None);
            };
            if let Ok(data) = frame.map_err(broken_off)?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// An answer as values.
pub(super) fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|error| {
        Failure::Refused(format!(
            "the daemon's answer cannot be read ({error}); daemon and command line may be of different versions"
        ))
    })
}

/// `?key=value&…`, percent-encoded.
fn query(words: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (at, (key, value)) in words.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' | b':' => {
                    text.push(char::from(byte));
                }
                _ => {
                    let _ = write!(text, "%{byte:02X}");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn query_encodes_what_means_something_in_a_uri() {
        let words = [
            ("prefix", "2001:db8::/32".to_owned()),
            ("interface", "a&b=c d".to_owned()),
        ];

        assert_eq!(
            query(&words),
            "?prefix=2001:db8::%2F32&interface=a%26b%3Dc%20d"
        );
        assert_eq!(query(&[]), "");
    }
}
