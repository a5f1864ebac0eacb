//! Lets futures take turns in every order there is, one step at a time.
//!
//! A step goes from one [`next`] to the one after it. What a future does may depend on nothing but
//! what its steps found, so two ways to the same state have the same ways on, and one of them is
//! enough. Never waits for anything that a step does not bring about.

use std::collections::HashSet;
use std::future::{self, Future};
use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The most steps of one run: more is a future that does not come to an end.
const MAX_STEPS: usize = 10_000;

/// The most runs for one beginning: more is no test that anybody waits for.
const MAX_RUNS: usize = 100_000;

/// Ends a step: goes on when it is polled again.
pub(crate) fn next() -> impl Future<Output = ()> {
    let mut is_asked = false;
    future::poll_fn(move |_| match std::mem::replace(&mut is_asked, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
}

/// Takes all steps of one future.
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

/// A future that takes turns with others.
pub(crate) type Player<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What begins with the same players each time.
pub(crate) trait Scene {
    type Value;
    /// All that players read, and all that they have found so far.
    type State: Eq + Hash;

    fn players(&self) -> Vec<Player<'_, Self::Value>>;
    fn state(&self) -> Self::State;
    /// Looks at what became of the players, in their order.
    fn check(&self, values: Vec<Self::Value>);
}

/// Plays a scene in every order of steps. Says how many ends it had.
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

/// Which of the players that had not ended took a step.
struct Choice {
    now: usize,
    of: usize,
}

/// What tells one state of a scene from another: what it says, and the steps of each player.
type Seen<S> = HashSet<(<S as Scene>::State, Vec<usize>)>;

/// Follows the choices and then adds the first there is, until all players ended. `None` where
/// that comes to a state that was seen.
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
