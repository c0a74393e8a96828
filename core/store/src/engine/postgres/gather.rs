//! Reads of one kind that are asked at the same time, and answered by one statement.
//!
//! While statements are under way, who asks waits for the next one, which reads for all who wait. A read that every
//! request needs costs one statement when nobody else asks, and a share of one under load. The statement is sent after
//! the question came, so no answer is older than its question. A database that is away is waited for once: the error
//! goes to all who wait, too.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::StoreError;

/// Statements under way. With one, who asks a moment too late waits for two; more would answer fewer questions each.
const AT_ONCE: usize = 2;

/// Questions of one statement.
const QUESTIONS_MAX: usize = 256;

/// How often a statement lets others go first, at most, while they add questions.
const TURNS_MAX: usize = 8;

/// The answers to questions, in their order.
pub(crate) type Answers<A> = Pin<Box<dyn Future<Output = Result<Vec<A>, StoreError>> + Send>>;

pub(crate) struct Gather<Q, A>(Mutex<Waiting<Q, A>>);

/// Where an answer goes.
type Sender<A> = oneshot::Sender<Result<A, StoreError>>;

struct Waiting<Q, A> {
    asked: Vec<(Q, Sender<A>)>,
    under_way: usize,
}

impl<Q, A> Default for Gather<Q, A> {
    fn default() -> Self {
        Gather(Mutex::new(Waiting { asked: Vec::new(), under_way: 0 }))
    }
}

impl<Q: Send + 'static, A: Send + 'static> Gather<Q, A> {
    /// Asks a question, which `read` answers together with others; every caller has to give the same one. `None` when
    /// the statement failed for a reason of its own: a caller that reads alone then learns it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Busy`], [`StoreError::Closed`].
    pub(crate) async fn ask<F>(
        self: &Arc<Self>,
        runtime: &Handle,
        question: Q,
        read: F,
    ) -> Result<Option<A>, StoreError>
    where
        F: Fn(Vec<Q>) -> Answers<A> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        if self.add(question, sender) {
            // A task of its own: others wait for it, so it must not end with its caller.
            runtime.spawn(UnderWay(Some(Arc::clone(self))).run(read));
        }
        receiver.await.ok().transpose()
    }

    /// Adds a question; true when the caller has to begin reading.
    fn add(&self, question: Q, sender: Sender<A>) -> bool {
        let mut waiting = self.waiting();
        waiting.asked.push((question, sender));
        let begins = waiting.under_way < AT_ONCE;
        waiting.under_way += usize::from(begins);
        begins
    }

    /// The questions that wait. None: the statement under way that asks for them has ended by this.
    fn take(&self) -> Option<(Vec<Q>, Vec<Sender<A>>)> {
        let mut waiting = self.waiting();
        if waiting.asked.is_empty() {
            waiting.under_way -= 1;
            return None;
        }
        let count = waiting.asked.len().min(QUESTIONS_MAX);
        Some(waiting.asked.drain(..count).unzip())
    }
}

impl<Q, A> Gather<Q, A> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<Q, A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the statements under way. Dropped before it ended, by a panic or with its runtime, it leaves nobody waiting.
struct UnderWay<Q, A>(Option<Arc<Gather<Q, A>>>);

impl<Q: Send + 'static, A: Send + 'static> UnderWay<Q, A> {
    async fn run(mut self, read: impl Fn(Vec<Q>) -> Answers<A> + Send) {
        loop {
            self.gather().await;
            let Some((questions, senders)) = self.0.as_ref().and_then(|gather| gather.take()) else { break };
            match read(questions).await {
                Ok(answers) => {
                    for (sender, answer) in senders.into_iter().zip(answers) {
                        let _ = sender.send(Ok(answer));
                    }
                }
                Err(error) => self.fail(senders, &error),
            }
        }
        self.0 = None;
    }

    /// Lets whoever is about to ask come first, for as long as somebody does: those who just got their answers, above
    /// all. Without this, the first of many asks alone, and the next few share what all could.
    async fn gather(&self) {
        let asked = || self.0.as_ref().map_or(0, |gather| gather.waiting().asked.len());
        let mut before = asked();
        for _ in 0..TURNS_MAX {
            tokio::task::yield_now().await;
            let now = asked();
            if now == before || now >= QUESTIONS_MAX {
                return;
            }
            before = now;
        }
    }

    /// Ends the wait of a failed statement's questions, and of those behind it when they would fail alike. Others than
    /// those learn nothing, by which they read alone.
    fn fail(&self, mut senders: Vec<Sender<A>>, error: &StoreError) {
        if shared(error).is_none() {
            return;
        }
        if let Some(gather) = &self.0 {
            senders.extend(gather.waiting().asked.drain(..).map(|(_, sender)| sender));
        }
        for (sender, error) in senders.into_iter().zip(std::iter::from_fn(|| shared(error))) {
            let _ = sender.send(Err(error));
        }
    }
}

/// An error that every statement of this moment has.
pub(super) fn shared(error: &StoreError) -> Option<StoreError> {
    match error {
        StoreError::Unavailable { reason } => Some(StoreError::Unavailable { reason: reason.clone() }),
        StoreError::Busy => Some(StoreError::Busy),
        StoreError::Closed => Some(StoreError::Closed),
        _ => None,
    }
}

impl<Q, A> Drop for UnderWay<Q, A> {
    fn drop(&mut self) {
        if let Some(gather) = self.0.take() {
            let mut waiting = gather.waiting();
            waiting.under_way -= 1;
            waiting.asked.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    /// Answers a question with itself and the number of questions of its statement, when a permit is there.
    fn read(permits: &Arc<Semaphore>) -> impl Fn(Vec<u32>) -> Answers<(u32, usize)> + Send + use<> {
        let permits = Arc::clone(permits);
        move |questions| {
            let permits = Arc::clone(&permits);
            Box::pin(async move {
                permits.acquire().await.expect("it is not closed").forget();
                if questions.contains(&13) {
                    return Err(StoreError::Full);
                }
                if questions.contains(&77) {
                    return Err(StoreError::Unavailable { reason: "away".to_owned() });
                }
                assert!(!questions.contains(&99), "a defect");
                let count = questions.len();
                Ok(questions.into_iter().map(|question| (question, count)).collect())
            })
        }
    }

    /// Lets every other task come to where it waits.
    async fn settled() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_asks_while_statements_are_under_way_is_answered_by_the_next_one() {
        let (gather, permits) = (Arc::new(Gather::default()), Arc::new(Semaphore::new(0)));
        let handle = Handle::current();
        let ask = |question| {
            let (gather, handle, read) = (Arc::clone(&gather), handle.clone(), read(&permits));
            tokio::spawn(async move { gather.ask(&handle, question, read).await })
        };
        let mut asked = Vec::new();
        for question in 0..12 {
            asked.push(ask(question));
            settled().await;
        }
        permits.add_permits(AT_ONCE + 1);
        for (question, answer) in asked.into_iter().enumerate() {
            let (answered, together) = answer.await.unwrap().unwrap().unwrap();
            assert_eq!(answered as usize, question);
            assert_eq!(together, if question < AT_ONCE { 1 } else { 12 - AT_ONCE });
        }
        // Idle, the next one is read at once.
        permits.add_permits(1);
        assert_eq!(ask(5).await.unwrap().unwrap(), Some((5, 1)));
    }

    #[tokio::test]
    async fn a_database_that_is_away_is_waited_for_once() {
        let (gather, permits) = (Arc::new(Gather::default()), Arc::new(Semaphore::new(0)));
        let handle = Handle::current();
        let ask = |question| {
            let (gather, handle, read) = (Arc::clone(&gather), handle.clone(), read(&permits));
            tokio::spawn(async move { gather.ask(&handle, question, read).await })
        };
        let mut asked = Vec::new();
        for question in [[77; AT_ONCE].as_slice(), &[1, 2]].concat() {
            asked.push(ask(question));
            settled().await;
        }
        // The statements under way fail; those who asked meanwhile wait for no further one.
        permits.add_permits(AT_ONCE);
        for answer in asked {
            assert!(matches!(answer.await.unwrap(), Err(StoreError::Unavailable { .. })));
        }
        permits.add_permits(1);
        assert_eq!(ask(3).await.unwrap().unwrap(), Some((3, 1)));
    }

    #[tokio::test]
    async fn a_statement_that_fails_or_panics_leaves_nobody_waiting() {
        let (gather, permits) = (Arc::new(Gather::default()), Arc::new(Semaphore::new(1000)));
        let handle = Handle::current();
        for question in [13, 99, 1, 99, 13, 99, 2] {
            let answer =
                tokio::time::timeout(Duration::from_secs(60), gather.ask(&handle, question, read(&permits)));
            let answered = answer.await.expect("it is answered").unwrap();
            assert_eq!(answered.map(|(answer, _)| answer), (question < 13).then_some(question));
        }
        settled().await;
        assert_eq!(gather.waiting().under_way, 0);
    }
}
