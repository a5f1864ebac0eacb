//! Runs futures in every possible interleaving, one step at a time.
//!
//! A step goes from one [`next`] to the one after it. A future may depend only on the results of its steps, so
//! that two paths to the same state have the same continuations, and one of them is enough. Nothing waits for
//! an event outside of the steps.

use std::collections::HashSet;
use std::future::{self, Future};
use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The most steps of one run: with more, a future does not end.
const MAX_STEPS: usize = 10_000;

/// The most runs for one beginning: with more, the test takes too long.
const MAX_RUNS: usize = 100_000;

/// Ends a step: ready when it is polled again.
pub(crate) fn next() -> impl Future<Output = ()> {
    let mut is_asked = false;
    future::poll_fn(move |_| match std::mem::replace(&mut is_asked, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
}

/// Runs all steps of one future.
pub(crate) fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    for _ in 0..MAX_STEPS {
        if let Poll::Ready(value) = step(future.as_mut()) {
            return value;
        }
    }
    panic!("no end after {MAX_STEPS} steps");
}

fn step<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A future whose steps are interleaved with those of others.
pub(crate) type Player<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A scene, which begins with the same players each time.
pub(crate) trait Scene {
    type Value;
    /// All that players read, and all results so far.
    type State: Eq + Hash;

    fn players(&self) -> Vec<Player<'_, Self::Value>>;
    fn state(&self) -> Self::State;
    /// Reads the results of the players, in their order.
    fn check(&self, values: Vec<Self::Value>);
}

/// Runs a scene in every order of steps. Returns the number of different ends.
pub(crate) fn in_every_order<S: Scene>(begin: impl Fn() -> S) -> usize {
    let mut seen = HashSet::new();
    let mut choices = Vec::new();
    let mut ends = 0;
    for _ in 0..MAX_RUNS {
        let scene = begin();
        if let Some(values) = run(&scene, &mut choices, &mut seen) {
            scene.check(values);
            ends += 1;
        }
        while choices
            .pop_if(|choice| choice.now + 1 == choice.of)
            .is_some()
        {}
        match choices.last_mut() {
            Some(choice) => choice.now += 1,
            None => return ends,
        }
    }
    panic!("no end after {MAX_RUNS} runs");
}

/// Which of the players that had not ended made a step.
struct Choice {
    now: usize,
    of: usize,
}

/// The identity of a state: what the scene reports, and the number of steps of each player.
type Seen<S> = HashSet<(<S as Scene>::State, Vec<usize>)>;

/// Follows the choices and then adds the first possible one, until all players have ended. `None` if that
/// reaches a known state.
fn run<S: Scene>(
    scene: &S,
    choices: &mut Vec<Choice>,
    seen: &mut Seen<S>,
) -> Option<Vec<S::Value>> {
    let mut players: Vec<_> = scene.players().into_iter().map(Some).collect();
    let mut values: Vec<_> = players.iter().map(|_| None).collect();
    let mut steps = vec![0; players.len()];
    for number in 0..MAX_STEPS {
        let alive: Vec<usize> = (0..players.len())
            .filter(|index| players[*index].is_some())
            .collect();
        if alive.is_empty() {
            return values.into_iter().collect();
        }
        if number == choices.len() {
            if !seen.insert((scene.state(), steps.clone())) {
                return None;
            }
            let of = alive.len();
            choices.push(Choice { now: 0, of });
        }
        let index = alive[choices[number].now];
        steps[index] += 1;
        if let Some(player) = &mut players[index]
            && let Poll::Ready(value) = step(player.as_mut())
        {
            players[index] = None;
            values[index] = Some(value);
        }
    }
    panic!("no end after {MAX_STEPS} steps");
}

#[test]
fn every_order_runs_and_no_state_twice() {
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Two players that write two letters each.
    struct Letters(RefCell<String>, Rc<RefCell<Vec<String>>>);

    impl Scene for Letters {
        type Value = ();
        type State = String;

        fn players(&self) -> Vec<Player<'_, ()>> {
            let player = |letter: char| -> Player<'_, ()> {
                Box::pin(async move {
                    self.0.borrow_mut().push(letter);
                    next().await;
                    self.0.borrow_mut().push(letter);
                })
            };
            vec![player('a'), player('b')]
        }

        fn state(&self) -> String {
            self.0.borrow().clone()
        }

        fn check(&self, _: Vec<()>) {
            self.1.borrow_mut().push(self.state());
        }
    }

    let ends = Rc::new(RefCell::new(Vec::new()));
    in_every_order(|| Letters(RefCell::default(), Rc::clone(&ends)));
    ends.borrow_mut().sort();
    let all = ["aabb", "abab", "abba", "baab", "baba", "bbaa"];
    assert_eq!(*ends.borrow(), all);
}
