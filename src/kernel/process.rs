//! What the process does to itself before it looks at its input, and how it waits.
//!
//! The environment is never read: a hook inherits that of an engine, a daemon or, at the wrong stage, of the
//! container's image (CVE-2025-23266).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{read, write};

use crate::error::{Cause, Failure};

/// How long the hook may take, from its start to its end.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Unblocks every signal on this thread.
///
/// crun runs its hooks with nearly all signals blocked (`block_signals`, SigBlk fffffffe7ffbfeff) and never restores
/// the mask for the child: a SIGTERM would stay pending for ever.
pub fn reset_signal_mask() -> Result<(), Failure> {
    // Not `thread_set_mask`, which takes the error that pthread_sigmask(3) returns for success.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(|errno| Failure::new("reset the signal mask", Cause::Confined(format!("sigprocmask said {errno:?}"))))
}

/// Gives up what this process never needs: gaining privileges by exec, being traced or dumped, files others can read.
///
/// Not dumpable: after the join, a process inside the container's user namespace must not be able to attach
/// (CVE-2016-9962). The umask is 077: what the hook writes is root's alone.
pub fn lock_down() -> Result<(), Failure> {
    let failed = |call: &str, errno: Errno| {
        Failure::new("lock this process down", Cause::Confined(format!("prctl({call}) said {errno:?}")))
    };
    prctl::set_no_new_privs().map_err(|errno| failed("PR_SET_NO_NEW_PRIVS", errno))?;
    prctl::set_dumpable(false).map_err(|errno| failed("PR_SET_DUMPABLE", errno))?;
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    Ok(())
}

/// The moment by which the work must be done, on the monotonic clock.
///
/// It is kept by poll, never by a signal: a runtime may block signals, and a timer that cannot fire is none.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
}

impl Deadline {
    /// The deadline `allowed` from now.
    pub fn after(allowed: Duration) -> Deadline {
        Deadline { end: Instant::now() + allowed }
    }

    /// What is left; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// What is left as an argument for poll: whole milliseconds, rounded up, so that poll never wakes too early and
    /// zero means that the deadline has passed.
    pub fn poll_timeout(&self) -> PollTimeout {
        let milliseconds = self.remaining().as_nanos().div_ceil(1_000_000);
        PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
    }

    /// An error once the deadline has passed. `doing` follows the word "cannot".
    pub fn check(&self, doing: &str) -> Result<(), Failure> {
        if self.remaining().is_zero() { Err(self.missed(doing)) } else { Ok(()) }
    }

    /// Waits until reading `fd` would not block: there is something, it has ended or it has failed. `doing` follows the
    /// word "cannot".
    pub fn wait_readable(&self, fd: impl AsFd, doing: &str) -> Result<(), Failure> {
        loop {
            let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, self.poll_timeout()) {
                Ok(0) => self.check(doing)?,
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Failure::new(doing, Cause::Io { path: "poll".into(), errno })),
            }
        }
    }

    fn missed(&self, doing: &str) -> Failure {
        Failure::new(doing, Cause::Deadline("the time for it has passed".into()))
    }
}

/// How long somebody who reads stderr may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a pipe takes at once where poll(2) says that it takes something (pipe(7), `PIPE_BUF`).
const AT_ONCE: usize = 4096;

/// Writes to stderr, and goes on without where nobody takes it: a pipe that is full and never read must not hold up the
/// end of a process whose exit code says the same.
pub fn say(line: &str) {
    let (stderr, patience) = (std::io::stderr(), Deadline::after(PATIENCE));
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut polled, patience.poll_timeout()) {
            Ok(0) if patience.remaining().is_zero() => return,
            Ok(0) | Err(Errno::EINTR) => continue,
            // Where poll is refused, the write tells.
            Ok(_) | Err(_) => {}
        }
        match write(&stderr, &rest[..rest.len().min(AT_ONCE)]) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR | Errno::EAGAIN) if !patience.remaining().is_zero() => {}
            Err(_) => return,
        }
    }
}

/// A container's state has some hundred bytes; a page on the stack costs one page fault.
const CHUNK: usize = 4096;

/// Reads the container's state from `fd` (stdin) to its end.
///
/// The writer is never left with a closed pipe: what exceeds the limit, in bytes and with its name for the message, is read and thrown away before the limit is
/// reported, because crun before 1.17 fails a hook on EPIPE and shows that instead of our message. Blocking and
/// non-blocking descriptors and regular files all work.
///
/// # Errors
///
/// [`Cause::State`] where `fd` is closed or not open for reading, [`Cause::Limit`] past the limit, [`Cause::Deadline`]
/// where the writer does not come to an end in time.
pub fn drain(fd: impl AsFd, (limit, name): (usize, &str), deadline: &Deadline) -> Result<Vec<u8>, Failure> {
    const DOING: &str = "read the container's state from stdin";
    let closed = || Failure::new(DOING, Cause::State("stdin is closed or not open for reading (EBADF)".into()));

    let mut state = Vec::new();
    let mut length = 0_usize;
    let mut chunk = [0_u8; CHUNK];
    loop {
        // Of a fast endless writer poll alone would never run into the deadline.
        deadline.check(DOING)?;
        deadline.wait_readable(&fd, DOING)?;
        match read(&fd, &mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                length = length.saturating_add(n);
                if length <= limit {
                    state.extend_from_slice(&chunk[..n]);
                }
            }
            // poll(2) may promise what a descriptor that does not block then does not hold.
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(Errno::EBADF) => return Err(closed()),
            Err(errno) => return Err(Failure::new(DOING, Cause::Io { path: "stdin".into(), errno })),
        }
    }
    if length > limit {
        let problem = format!("it has {length} bytes and {name} is {limit}");
        return Err(Failure::new(DOING, Cause::Limit(problem)));
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use std::thread;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(50))
    }

    const LIMIT: (usize, &str) = (8 << 20, "MAX_STATE");

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(b"{\"id\":").unwrap();
            writer.write_all(b"\"x\"}").unwrap();
        });
        assert_eq!(drain(&reader, LIMIT, &Deadline::after(DEADLINE)).unwrap(), b"{\"id\":\"x\"}");
        writing.join().unwrap();
    }

    #[test]
    fn a_descriptor_that_does_not_block_is_read_to_its_end() {
        let (reader, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        let writing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            writer.write_all(b"late").unwrap();
        });
        assert_eq!(drain(&reader, LIMIT, &Deadline::after(DEADLINE)).unwrap(), b"late");
        writing.join().unwrap();
    }

    #[test]
    fn a_regular_file_is_read_to_its_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 10_000]).unwrap();
        file.rewind().unwrap();
        assert_eq!(drain(&file, LIMIT, &Deadline::after(DEADLINE)).unwrap(), [b'x'; 10_000]);
    }

    #[test]
    fn exactly_the_limit_passes_and_one_byte_more_does_not() {
        for (surplus, passes) in [(0, true), (1, false)] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let writing = thread::spawn(move || writer.write_all(&vec![b' '; LIMIT.0 + surplus]));
            let read = drain(&reader, LIMIT, &Deadline::after(Duration::from_secs(60)));
            // The writer saw no EPIPE in either case: `reader` lives until here.
            writing.join().unwrap().unwrap();
            match read {
                Ok(state) => assert!(passes && state.len() == LIMIT.0),
                Err(failure) => {
                    assert!(!passes);
                    assert_eq!(failure.exit_code(), 41);
                    assert!(failure.to_string().contains("MAX_STATE is 8388608"), "{failure}");
                }
            }
        }
    }

    #[test]
    fn a_writer_that_never_ends_runs_into_the_deadline() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"{").unwrap();
        let failure = drain(&reader, LIMIT, &soon()).unwrap_err();
        assert!(matches!(failure.cause, Cause::Deadline(_)), "{failure}");
    }

    #[test]
    fn an_endless_stream_runs_into_the_deadline() {
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let failure = drain(&zero, LIMIT, &soon()).unwrap_err();
        assert!(matches!(failure.cause, Cause::Deadline(_)), "{failure}");
    }

    #[test]
    fn a_descriptor_that_cannot_be_read_is_said_to_be_closed() {
        let written_only = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        let failure = drain(&written_only, LIMIT, &soon()).unwrap_err();
        assert_eq!(failure.exit_code(), 12);
        assert!(failure.to_string().contains("stdin is closed"), "{failure}");
    }

    #[test]
    fn a_deadline_in_the_past_has_nothing_left() {
        let past = Deadline::after(Duration::ZERO);
        assert_eq!(past.remaining(), Duration::ZERO);
        assert_eq!(past.poll_timeout(), PollTimeout::ZERO);
        assert_eq!(past.check("wait").unwrap_err().exit_code(), 41);
    }

    #[test]
    fn the_rest_of_a_millisecond_is_rounded_up() {
        let left = |time| Deadline::after(time).poll_timeout();
        // An hour less the microseconds that have gone by since is 3,600,000 ms when rounded up and one less when not.
        assert_eq!(left(Duration::from_secs(3600)), PollTimeout::try_from(3_600_000).unwrap());
        assert_eq!(left(Duration::MAX / 4), PollTimeout::MAX);
    }

    #[test]
    fn every_signal_is_unblocked() {
        thread::spawn(|| {
            SigSet::all().thread_set_mask().unwrap();
            assert_ne!(blocked(), 0);
            reset_signal_mask().unwrap();
            assert_eq!(blocked(), 0);
        })
        .join()
        .unwrap();
    }

    /// The kernel's own account of this thread's mask.
    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    }
}
