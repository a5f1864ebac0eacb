//! One peer after the other, and what their answers mean together.
//!
//! Never sends.

use alldata_peer_protocol::client::Refusal;

/// Puts to one peer after the other until one has the last word.
///
/// What may have been stored by one peer, no later one can deny: after an answer that leaves that
/// open only a success counts.
pub(crate) fn first_answer<P>(
    peers: &[P],
    mut put: impl FnMut(&P) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut answer = None;
    for peer in peers {
        let Err(refusal) = put(peer) else {
            return Ok(());
        };
        let is_last_word = matches!(refusal, Refusal::Conflict | Refusal::Rejected(_));
        answer = Some(match answer {
            None => refusal,
            Some(earlier) => together(earlier, refusal),
        });
        if is_last_word {
            break;
        }
    }
    match answer {
        None => Err(Refusal::Failed("there is no peer to put to".into())),
        Some(refusal) => Err(refusal),
    }
}

fn together(earlier: Refusal, later: Refusal) -> Refusal {
    match (earlier, later) {
        (
            Refusal::Unavailable {
                retry_after_seconds: a,
            },
            Refusal::Unavailable {
                retry_after_seconds: b,
            },
        ) => Refusal::Unavailable {
            retry_after_seconds: a.min(b),
        },
        // It may be taken later, or elsewhere.
        (unavailable @ Refusal::Unavailable { .. }, Refusal::Unfit(_)) => unavailable,
        (Refusal::Unavailable { .. } | Refusal::Unfit(_), later) => later,
        (earlier, _) => earlier,
    }
}

#[cfg(test)]
mod tests {
    use super::first_answer;
    use alldata_peer_protocol::client::Refusal;

    fn unavailable(retry_after_seconds: u32) -> Result<(), Refusal> {
        Err(Refusal::Unavailable {
            retry_after_seconds,
        })
    }

    #[test]
    fn the_answers_of_all_peers_make_one() {
        let (conflict, unknown) = (Err(Refusal::Conflict), Err(Refusal::Unknown));
        let rejected = Err(Refusal::Rejected("No.".into()));
        let failed = Err(Refusal::Failed("broken".into()));
        let unfit = Err(Refusal::Unfit("Too large.".into()));
        for (answers, together, asked) in [
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
            (vec![unfit.clone(), Ok(())], Ok(()), 2),
            (vec![unfit.clone(), unavailable(2)], unavailable(2), 2),
            (vec![unavailable(2), unfit.clone()], unavailable(2), 2),
            (vec![unfit.clone(), unfit.clone()], unfit, 2),
            (
                vec![],
                Err(Refusal::Failed("there is no peer to put to".into())),
                0,
            ),
            // What may be stored stays open.
            (vec![unknown.clone(), unavailable(1)], unknown.clone(), 2),
            (vec![unknown.clone(), conflict], unknown, 2),
            (vec![failed.clone(), rejected, Ok(())], failed, 2),
        ] {
            let mut count = 0;
            let answer = first_answer(&answers, |answer| {
                count += 1;
                answer.clone()
            });
            assert_eq!((answer, count), (together, asked), "{answers:?}");
        }
    }
}
