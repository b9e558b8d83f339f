//! openraft's runtime: tokio's. Under simulation its tasks know whose they are, inherit that to
//! those they start, and draw their random numbers from the seed.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::async_runtime::AsyncRuntime;
use openraft::{OptionalSend, TokioInstant, TokioRuntime};
use rand_core::TryRng;

use super::Simulation;

thread_local! {
    /// Whose task is being polled; `None` outside of a simulation.
    static CURRENT: RefCell<Option<Arc<dyn Simulation>>> = const { RefCell::new(None) };
}

fn current() -> Option<Arc<dyn Simulation>> {
    CURRENT.with_borrow(Clone::clone)
}

/// A task of a simulated node.
struct Hosted<F> {
    simulation: Arc<dyn Simulation>,
    number: u64,
    task: Pin<Box<F>>,
}

/// Puts back who was current, also when a task panics.
struct Restore(Option<Arc<dyn Simulation>>);

impl Drop for Restore {
    fn drop(&mut self) {
        let before = self.0.take();
        CURRENT.with_borrow_mut(|current| *current = before);
    }
}

impl<F: Future> Future for Hosted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if !self.simulation.runs(self.number, context.waker()) {
            return Poll::Pending;
        }
        let ours = Some(Arc::clone(&self.simulation));
        let _restore = Restore(CURRENT.with_borrow_mut(|current| std::mem::replace(current, ours)));
        self.task.as_mut().poll(context)
    }
}

/// Starts a task of a simulated node on the runtime of the caller.
pub(super) fn spawn<F>(
    simulation: &Arc<dyn Simulation>,
    task: F,
) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (simulation, number) = (Arc::clone(simulation), simulation.number());
    let task = Hosted { simulation: Arc::clone(&simulation), number, task: Box::pin(task) };
    let handle = tokio::runtime::Handle::current().spawn(task);
    simulation.started(handle.abort_handle());
    handle
}

/// See the module.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = Chance;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match current() {
            None => TokioRuntime::spawn(future),
            Some(simulation) => spawn(&simulation, future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Chance {
        current().map_or_else(|| Chance::Thread(TokioRuntime::thread_rng()), Chance::Simulated)
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

/// Random numbers for openraft: the thread's, or the simulation's.
#[derive(Debug)]
pub enum Chance {
    /// The thread's.
    Thread(<TokioRuntime as AsyncRuntime>::ThreadLocalRng),
    /// The simulation's.
    Simulated(Arc<dyn Simulation>),
}

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        match self {
            Self::Thread(thread) => thread.try_next_u32(),
            Self::Simulated(simulation) => {
                // The upper half always fits.
                Ok(u32::try_from(simulation.random() >> 32).unwrap_or_default())
            }
        }
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        match self {
            Self::Thread(thread) => thread.try_next_u64(),
            Self::Simulated(simulation) => Ok(simulation.random()),
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        match self {
            Self::Thread(thread) => thread.try_fill_bytes(bytes),
            Self::Simulated(simulation) => {
                for piece in bytes.chunks_mut(8) {
                    let random = simulation.random().to_le_bytes();
                    piece.iter_mut().zip(random).for_each(|(byte, random)| *byte = random);
                }
                Ok(())
            }
        }
    }
}
