//! A thread for long jobs, done one after the other; results are collected later.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use crate::base::boundary::guard;
use crate::base::sync::{lock, unpoisoned};

type Job<T> = Box<dyn FnOnce() -> T + Send>;

/// A handle of the thread, which ends with the process, even in the middle of a job.
pub struct Worker<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    wake: Condvar,
}

struct Queue<T> {
    jobs: VecDeque<Job<T>>,
    done: Vec<T>,
    busy: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        lock(&self.queue)
    }
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the thread `name`, which calls `prepare` first.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(name: &str, prepare: fn()) -> io::Result<Worker<T>> {
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), done: Vec::new(), busy: false });
        let shared = Arc::new(Shared { queue, wake: Condvar::new() });
        let theirs = shared.clone();
        let work = move || {
            prepare();
            run(&theirs);
        };
        thread::Builder::new().name(name.to_owned()).stack_size(256 << 10).spawn(work)?;
        Ok(Worker { shared })
    }

    /// Queues a job. One that panics gives no result, unless it is an [`attempt`].
    pub fn push(&self, job: impl FnOnce() -> T + Send + 'static) {
        self.shared.lock().jobs.push_back(Box::new(job));
        self.shared.wake.notify_one();
    }

    /// The results since the last call.
    pub fn done(&self) -> Vec<T> {
        std::mem::take(&mut self.shared.lock().done)
    }

    /// Whether any job is queued or running, or any result uncollected.
    pub fn is_busy(&self) -> bool {
        let queue = self.shared.lock();
        queue.busy || !queue.jobs.is_empty() || !queue.done.is_empty()
    }
}

fn run<T>(shared: &Shared<T>) {
    let mut queue = shared.lock();
    loop {
        let Some(job) = queue.jobs.pop_front() else {
            queue = unpoisoned(shared.wake.wait(queue));
            continue;
        };
        queue.busy = true;
        drop(queue);
        let done = guard("a job", job);
        queue = shared.lock();
        queue.busy = false;
        queue.done.extend(done.ok());
    }
}

/// Does `job` and returns its result; a panic, with its place, is an error as any other.
///
/// # Errors
/// That of `job`, or its panic.
pub fn attempt<T>(what: &str, job: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    guard(what, job).unwrap_or_else(|panicked| Err(panicked.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn jobs_are_done_in_order_and_a_panic_costs_one() {
        let worker = Worker::start("test", || {}).unwrap();
        for number in 0..5 {
            worker.push(move || if number == 2 { panic!("a test's panic") } else { number });
        }
        let mut done = Vec::new();
        while worker.is_busy() {
            done.extend(worker.done());
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(done, [0, 1, 3, 4]);
    }

    #[test]
    fn an_attempt_that_panics_fails_with_the_reason() {
        let worker = Worker::start("test", || {}).unwrap();
        let open: fn(&str) -> Result<usize, String> = |name| match name {
            "bad" => panic!("a test's panic"),
            name => Ok(name.len()),
        };
        for name in ["fine", "bad", "better"] {
            worker.push(move || attempt("open a torrent", || open(name)));
        }
        let mut done = Vec::new();
        while worker.is_busy() {
            done.extend(worker.done());
            thread::sleep(Duration::from_millis(1));
        }
        let [Ok(4), Err(why), Ok(6)] = &done[..] else { panic!("{done:?}") };
        assert!(why.starts_with(&format!("open a torrent: panicked at {}:", file!())), "{why}");
    }
}
