//! Tries one peer after the other, and combines their errors.

use alldata_peer_protocol::client::PeerError;

/// Puts to one peer after the other until one gives a final response.
///
/// Once a peer may have stored the event, no later peer can say that it is not stored: only a success
/// changes the result then.
pub(crate) async fn put_to_first<P>(
    peers: &[P],
    mut put: impl AsyncFnMut(&P) -> Result<(), PeerError>,
) -> Result<(), PeerError> {
    let mut combined = None;
    for peer in peers {
        let Err(error) = put(peer).await else {
            return Ok(());
        };
        let is_final = matches!(error, PeerError::Conflict | PeerError::Rejected(_));
        combined = Some(match combined {
            None => error,
            Some(earlier) => combine(earlier, error),
        });
        if is_final {
            break;
        }
    }
    match combined {
        None => Err(PeerError::Failed("there is no peer to put to".into())),
        Some(error) => Err(error),
    }
}

fn combine(earlier: PeerError, later: PeerError) -> PeerError {
    match (earlier, later) {
        (
            PeerError::Unavailable {
                retry_after_seconds: a,
            },
            PeerError::Unavailable {
                retry_after_seconds: b,
            },
        ) => PeerError::Unavailable {
            retry_after_seconds: a.min(b),
        },
        // Another peer may store it later.
        (unavailable @ PeerError::Unavailable { .. }, PeerError::NotAccepted(_)) => unavailable,
        (PeerError::Unavailable { .. } | PeerError::NotAccepted(_), later) => later,
        (earlier, _) => earlier,
    }
}

#[cfg(test)]
mod tests {
    use super::put_to_first;
    use alldata_peer_protocol::client::PeerError;
    use futures_util::FutureExt as _;

    fn unavailable(retry_after_seconds: u32) -> Result<(), PeerError> {
        Err(PeerError::Unavailable {
            retry_after_seconds,
        })
    }

    #[test]
    fn errors_of_all_peers_are_combined() {
        let (conflict, unknown) = (Err(PeerError::Conflict), Err(PeerError::Unknown));
        let rejected = Err(PeerError::Rejected("No.".into()));
        let failed = Err(PeerError::Failed("broken".into()));
        let not_accepted = Err(PeerError::NotAccepted("Too large.".into()));
        for (results, combined, asked) in [
            (vec![Ok(()), conflict.clone()], Ok(()), 1),
            (vec![unavailable(9), Ok(())], Ok(()), 2),
            (vec![unknown.clone(), failed.clone(), Ok(())], Ok(()), 3),
            (
                vec![unavailable(9), conflict.clone(), Ok(())],
                conflict.clone(),
                2,
            ),
            (vec![rejected.clone(), Ok(())], rejected.clone(), 1),
            (
                vec![unavailable(9), unavailable(2), unavailable(5)],
                unavailable(2),
                3,
            ),
            (vec![unavailable(9), unknown.clone()], unknown.clone(), 2),
            (vec![not_accepted.clone(), Ok(())], Ok(()), 2),
            (
                vec![not_accepted.clone(), unavailable(2)],
                unavailable(2),
                2,
            ),
            (
                vec![unavailable(2), not_accepted.clone()],
                unavailable(2),
                2,
            ),
            (
                vec![not_accepted.clone(), not_accepted.clone()],
                not_accepted,
                2,
            ),
            (
                vec![],
                Err(PeerError::Failed("there is no peer to put to".into())),
                0,
            ),
            // What may be stored stays open.
            (vec![unknown.clone(), unavailable(1)], unknown.clone(), 2),
            (vec![unknown.clone(), conflict], unknown, 2),
            (vec![failed.clone(), rejected, Ok(())], failed, 2),
        ] {
            let mut count = 0;
            let put = async |result: &Result<(), PeerError>| {
                count += 1;
                result.clone()
            };
            let result = put_to_first(&results, put).now_or_never();
            let result = result.expect("waits for nothing");
            assert_eq!((result, count), (combined, asked), "{results:?}");
        }
    }
}
