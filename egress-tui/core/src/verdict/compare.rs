//! Expected against observed: what a proxy did with a connection, and what it had to do.

use super::judge::{Question, Upstream};
use super::{Reason, Verdict};
use crate::mesh::Outcome;

/// What a comparison says.
pub(super) enum Compared {
    /// The same.
    Agrees,
    /// The same, as far as reused connections tell.
    Pooled,
    /// The second half was not seen.
    Unfinished(String),
    /// Something else.
    Another(Verdict, Reason, String),
}

/// Line 5: what the proxy did against what it had to do.
pub(super) fn compare(q: &Question<'_>, upstream: Upstream<'_>) -> Compared {
    let e = q.expected;
    let mismatch = |says: String| Compared::Another(Verdict::PolicyMismatch, Reason::StaleProxy, says);
    let wanted = e.gateway.as_ref();
    match (e.outcome, upstream) {
        (Outcome::ViaGateway | Outcome::ViaWaypoint, Upstream::Gateway(seen)) => match wanted {
            Some(wanted) if wanted != seen => Compared::Another(
                Verdict::WrongGateway,
                Reason::WrongGateway,
                format!("the configuration leads to {wanted}, the proxy went to {seen}"),
            ),
            _ => Compared::Agrees,
        },
        // Which connection was reused is not seen; that none of them leads there is.
        (Outcome::ViaGateway, Upstream::PooledGateway(seen)) => match wanted {
            Some(wanted) if wanted != seen => Compared::Another(
                Verdict::WrongGateway,
                Reason::WrongGateway,
                format!(
                    "the configuration leads to {wanted}; no connection of the proxy leads there, and it reuses one to {seen}"
                ),
            ),
            _ => Compared::Pooled,
        },
        (Outcome::ViaGateway | Outcome::ViaWaypoint, Upstream::To(to) | Upstream::Pooled(to)) => {
            let wanted = wanted.map_or_else(|| "the gateway".to_owned(), ToString::to_string);
            let unlike = if e.routed.is_some() { ", like one that does not have this rule" } else { "" };
            mismatch(format!("the configuration leads to {wanted}, the proxy connected to {to}{unlike}"))
        }
        (Outcome::Blocked, Upstream::To(to)) => mismatch(format!("policy stops it, but the proxy connected to {to}")),
        (Outcome::Blocked, Upstream::Gateway(seen)) => {
            mismatch(format!("policy stops it, but the proxy went to {seen}"))
        }
        (Outcome::Direct | Outcome::Passthrough | Outcome::Dynamic, Upstream::Gateway(seen)) => {
            mismatch(format!("the configuration leads straight out, the proxy went to gateway {seen}"))
        }
        (Outcome::Passthrough, Upstream::To(to)) if to != q.call.to => {
            mismatch(format!("it had to go on to {}, the proxy connected to {to}", q.call.to))
        }
        (
            Outcome::Broken | Outcome::Blocked | Outcome::Answered,
            Upstream::None | Upstream::Pooled(_) | Upstream::PooledGateway(_),
        )
        | (_, Upstream::To(_) | Upstream::Gateway(_)) => Compared::Agrees,
        (_, Upstream::Pooled(_) | Upstream::PooledGateway(_)) => Compared::Pooled,
        (_, Upstream::None) => {
            Compared::Unfinished("the proxy took it, and no socket of the proxy that carries it on was seen".to_owned())
        }
    }
}
