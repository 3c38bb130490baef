//! What waits: a queue for each user and insight, and the order in which they are served.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};

use tokio::sync::oneshot;
use tracing::Span;

use super::Change;
use crate::{error::Result, feedback::Written};

/// A user's feedback on an insight; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<(String, String)>);

impl Key {
    pub(super) fn of(change: &Change) -> Self {
        Self(Arc::new((
            change.insight_id.clone(),
            change.user_id.clone(),
        )))
    }
}

/// A change and whom to answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub change: Change,
    pub answer: oneshot::Sender<Result<Written>>,
    /// What is being done where the write comes from.
    pub asked_by: Span,
}

/// Each key is in one of three states: unknown; ready, with something waiting; or taken, with or without something
/// waiting, until it is given back. So no two batches hold the same key, and what waits under one key stays in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Keys with something waiting that are not taken.
    ready: VecDeque<Key>,
    /// What waits for each ready or taken key.
    by_key: HashMap<Key, VecDeque<Waiting>>,
    waiting: usize,
}

impl Queue {
    /// How many changes wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether there is something to take.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Adds a change behind those of its key.
    pub(super) fn push(&mut self, key: Key, waiting: Waiting) {
        self.waiting += 1;
        match self.by_key.entry(key) {
            Entry::Occupied(mut known) => known.get_mut().push_back(waiting),
            Entry::Vacant(unknown) => {
                self.ready.push_back(unknown.key().clone());
                unknown.insert(VecDeque::from([waiting]));
            }
        }
    }

    /// Takes one change of each ready key, at most so many. A caller that went away before has nothing written.
    pub(super) fn take(&mut self, most: usize) -> Vec<(Key, Waiting)> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(key) = self.ready.pop_front()
        {
            let Some(queue) = self.by_key.get_mut(&key) else {
                continue;
            };
            let next = loop {
                let next = queue.pop_front();
                self.waiting -= usize::from(next.is_some());
                if next.as_ref().is_none_or(|next| !next.answer.is_closed()) {
                    break next;
                }
            };
            match next {
                Some(waiting) => taken.push((key, waiting)),
                None => {
                    self.by_key.remove(&key);
                }
            }
        }
        taken
    }

    /// Gives a taken key back.
    pub(super) fn give_back(&mut self, key: Key) {
        if let Entry::Occupied(known) = self.by_key.entry(key) {
            if known.get().is_empty() {
                known.remove();
            } else {
                self.ready.push_back(known.key().clone());
            }
        }
    }

    /// Drops all that waits: nobody is there to write it. Taken keys stay taken.
    pub(super) fn abandon(&mut self) {
        self.waiting = 0;
        for key in self.ready.drain(..) {
            self.by_key.remove(&key);
        }
        for queue in self.by_key.values_mut() {
            queue.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    type Answered = oneshot::Receiver<Result<Written>>;

    fn push(queue: &mut Queue, user: &str, rating: i16) -> Answered {
        let (answer, answered) = oneshot::channel();
        let change = Change {
            insight_id: "i".to_owned(),
            user_id: user.to_owned(),
            rating: Some(rating),
            comment: None,
            flag: None,
            at: DateTime::<Utc>::UNIX_EPOCH,
        };
        queue.push(
            Key::of(&change),
            Waiting {
                change,
                answer,
                asked_by: Span::none(),
            },
        );
        answered
    }

    fn ratings(taken: &[(Key, Waiting)]) -> Vec<i16> {
        taken
            .iter()
            .filter_map(|(_, waiting)| waiting.change.rating)
            .collect()
    }

    #[test]
    fn what_waits_under_one_key_is_taken_in_order_and_never_by_two_at_once() {
        let mut queue = Queue::default();
        let _answers: Vec<_> = [("a", 1), ("a", 2), ("b", 3), ("a", 4)]
            .map(|(user, rating)| push(&mut queue, user, rating))
            .into();
        let first = queue.take(10);
        assert_eq!((ratings(&first), queue.waiting()), (vec![1, 3], 2));
        assert!(!queue.is_ready());
        assert!(queue.take(10).is_empty());
        for (key, _) in first {
            queue.give_back(key);
        }
        let second = queue.take(10);
        let _answer = push(&mut queue, "b", 5);
        assert_eq!(ratings(&second), [2]);
        assert_eq!(ratings(&queue.take(10)), [5]);
        for (key, _) in second {
            queue.give_back(key);
        }
        assert_eq!(ratings(&queue.take(10)), [4]);
    }

    #[test]
    fn no_more_are_taken_than_asked_for_and_nothing_is_kept_of_what_is_done() {
        let mut queue = Queue::default();
        let _answers: Vec<_> = (0..5)
            .map(|user| push(&mut queue, &user.to_string(), user))
            .collect();
        let mut seen = Vec::new();
        while queue.is_ready() {
            let taken = queue.take(2);
            assert!(taken.len() <= 2);
            seen.extend(ratings(&taken));
            for (key, _) in taken {
                queue.give_back(key);
            }
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert!(queue.by_key.is_empty() && queue.waiting() == 0);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_taken() {
        let mut queue = Queue::default();
        drop(push(&mut queue, "a", 1));
        let _answer = push(&mut queue, "a", 2);
        drop(push(&mut queue, "b", 3));
        assert_eq!(ratings(&queue.take(10)), [2]);
        assert_eq!((queue.waiting(), queue.by_key.len()), (0, 1));
    }

    #[test]
    fn abandoned_changes_are_dropped_and_taken_keys_can_still_be_given_back() {
        let mut queue = Queue::default();
        let mut answers: Vec<_> = [("a", 1), ("a", 2), ("b", 3)]
            .map(|(user, rating)| push(&mut queue, user, rating))
            .into();
        let taken = queue.take(1);
        queue.abandon();
        assert!(answers.split_off(1).iter_mut().all(|answer| {
            matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed))
        }));
        for (key, _) in taken {
            queue.give_back(key);
        }
        assert!(queue.by_key.is_empty() && queue.waiting() == 0 && !queue.is_ready());
    }
}
