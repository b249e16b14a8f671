//! What can go wrong between here and an API server, as far as it makes a difference.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tokio::time::timeout;

/// A server that takes longer for an answer of one piece does not answer.
const LONGEST: Duration = Duration::from_secs(5);

/// Why a request was not answered as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// 403.
    Denied,
    /// 404: the server has no such kind, or not in this version.
    NotServed,
    /// 401, or credentials that cannot be had.
    NotAccepted(String),
    /// 410: the history that was asked for is gone.
    Gone,
    /// 400 or 422: the request means nothing to this server.
    NotUnderstood(String),
    /// No connection, or it broke, or the server is too busy or broken itself.
    Unreachable(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("denied (403)"),
            Self::NotServed => f.write_str("not served (404)"),
            Self::Gone => f.write_str("its history is gone (410)"),
            Self::NotAccepted(why) => write!(f, "the credentials are not accepted: {why}"),
            Self::NotUnderstood(why) | Self::Unreachable(why) => f.write_str(why),
        }
    }
}

impl Trouble {
    /// From the code and the text of a status.
    pub(super) fn of_status(code: u16, message: &str) -> Self {
        let told = || format!("{} ({code})", short(message));
        match code {
            401 => Self::NotAccepted(told()),
            403 => Self::Denied,
            404 | 405 => Self::NotServed,
            410 => Self::Gone,
            400 | 422 => Self::NotUnderstood(told()),
            _ => Self::Unreachable(told()),
        }
    }
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) => Self::of_status(status.code, &status.message),
            kube::Error::Auth(auth) => Self::NotAccepted(short(&auth.to_string())),
            _ => {
                // The last cause says most: connection refused, no such host, certificate unknown.
                let mut cause: &dyn std::error::Error = &error;
                while let Some(deeper) = cause.source() {
                    cause = deeper;
                }
                Self::Unreachable(short(&cause.to_string()))
            }
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Self::Unreachable(short(&cause))
    }
}

/// An answer, unless it takes too long.
pub(super) async fn answered<T>(answer: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let late = || Trouble::Unreachable(format!("no answer within {} s", LONGEST.as_secs()));
    timeout(LONGEST, answer).await.unwrap_or_else(|_| Err(late()))
}

/// One printable line of a text that a server sent.
fn short(text: &str) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    egress_core::name::printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_what_to_do() {
        assert_eq!(Trouble::of_status(403, "no"), Trouble::Denied);
        assert_eq!(Trouble::of_status(410, "too old"), Trouble::Gone);
        assert_eq!(Trouble::of_status(503, "busy\nvery"), Trouble::Unreachable("busy (503)".to_owned()));
        assert!(matches!(Trouble::of_status(422, ""), Trouble::NotUnderstood(_)));
    }
}
