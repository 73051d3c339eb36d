//! The threads that run programs, and those for long work of the host.

/// How nice they are to the engines' threads, as in `nice(1)`: a thread that computes a batch gets nine times as much of a
/// processor. At 19 others gain little more, and whatever else runs on the machine keeps the programs waiting.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lets threads of this process that compute a model have the processor first. For the beginning of each thread that runs
/// programs or long work (`on_thread_start` of the tokio runtime), before the engine's threads are started by another.
///
/// The threads of a batch wait for each other, so that a program which keeps one of them from its processor holds up
/// everybody's batch. Programs wait for batches anyway. Only on Linux; elsewhere threads are equal.
pub fn give_way_to_models() {
    #[cfg(target_os = "linux")]
    {
        // Nobody needs a right to be nicer.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "a thread keeps its priority");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    #[test]
    fn programs_threads_give_way_and_others_do_not() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let program = thread::spawn(move || {
            super::give_way_to_models();
            nice()
        });
        assert_eq!((program.join().unwrap(), nice()), (super::NICE, before));
    }
}
