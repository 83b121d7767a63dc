//! Places where a test makes this program die, stop, fail or hear a wrong answer.
//!
//! A fault is one environment variable, [`VARIABLE`]: `DEED POINT NTH [PATH]`.
//!
//! | deed | what happens at the point |
//! |---|---|
//! | `kill` | SIGKILL to this process |
//! | `wait` | the file PATH is made, and the program goes on once somebody has removed it |
//! | `trace` | the point's name is added to the file PATH as a line |
//! | `errno:N` | the call fails with that errno |
//! | `answer:N` | `hear` alone: the datagram becomes the kernel's refusal with that errno |
//! | `cut` | `hear` alone: half of the datagram is missing |
//! | `lose` | `send`: the datagram goes nowhere, and no error says so. `hear`: it never came |
//! | `interrupt` | `hear` alone: the datagram says that what it lists has changed (`NLM_F_DUMP_INTR`) |
//!
//! POINT is a name or `*` for any; NTH says which time, from 1, or 0 for every time.
//!
//! **No release build has this.** It hangs on `debug_assertions` and not on a feature of the package: features add up
//! over all that is built together, so that one asked for by tests can end up in what is installed, while the release
//! profile has no debug assertions whoever asks. There the functions below are empty and the environment is not read.

/// The variable's name.
#[cfg(debug_assertions)]
pub const VARIABLE: &str = "NETLATCH_FAULT";

#[cfg(debug_assertions)]
pub use armed::{hear, reach, send, step};

/// A point on the way. An error is one that was asked for.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn reach(_: &'static str) -> Result<(), nix::errno::Errno> {
    Ok(())
}

/// A point behind a step of the plan, or of the way to it.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn step(_: &'static str) -> Result<(), crate::error::Failure> {
    Ok(())
}

/// A datagram that is about to be sent. `false`: it is not to be.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn send() -> Result<bool, nix::errno::Errno> {
    Ok(true)
}

/// A datagram that the kernel sent: the first `length` bytes of `buffer`. What is returned is its length; `None` where
/// it is not to be heard.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn hear(_: &mut [u8], length: usize) -> Result<Option<usize>, nix::errno::Errno> {
    Ok(Some(length))
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::sys::signal::{Signal, raise};

    use super::VARIABLE;
    use crate::error::{Cause, Failure};
    use crate::netlink::NLMSG_ERROR;
    use crate::nft::wire::uapi::NLM_F_DUMP_INTR;

    /// `sizeof(struct nlmsghdr)`, and of one with an error behind it.
    const HEADER: usize = 16;
    const REFUSAL: usize = HEADER + 4;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Deed {
        Kill,
        Wait,
        Trace,
        Errno(Errno),
        Answer(Errno),
        Cut,
        Lose,
        Interrupt,
    }

    #[derive(Debug)]
    struct Fault {
        deed: Deed,
        point: String,
        nth: u64,
        path: PathBuf,
        seen: AtomicU64,
    }

    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();

    /// A variable that is not understood stands for no fault: the test that set it then finds none.
    fn parse(text: &str) -> Option<Fault> {
        let mut words = text.split(' ');
        let deed = words.next()?;
        let (name, number) = deed.split_once(':').unwrap_or((deed, "0"));
        let errno = Errno::from_raw(number.parse().ok()?);
        let deed = match name {
            "kill" => Deed::Kill,
            "wait" => Deed::Wait,
            "trace" => Deed::Trace,
            "errno" => Deed::Errno(errno),
            "answer" => Deed::Answer(errno),
            "cut" => Deed::Cut,
            "lose" => Deed::Lose,
            "interrupt" => Deed::Interrupt,
            _ => return None,
        };
        let (point, nth) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        Some(Fault { deed, point, nth, path: words.next().unwrap_or_default().into(), seen: AtomicU64::new(0) })
    }

    /// What is to happen at this point, if anything.
    fn fault_at(point: &str) -> Option<&'static Fault> {
        let fault = FAULT.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?)).as_ref()?;
        if fault.point != "*" && fault.point != point {
            return None;
        }
        let time = fault.seen.fetch_add(1, Ordering::Relaxed) + 1;
        (fault.nth == 0 || fault.nth == time).then_some(fault)
    }

    impl Fault {
        /// What can happen at any point.
        fn strike(&self, point: &str) -> Result<(), Errno> {
            match self.deed {
                Deed::Kill => raise(Signal::SIGKILL),
                Deed::Wait => {
                    drop(std::fs::File::create(&self.path));
                    while self.path.exists() {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    Ok(())
                }
                Deed::Trace => {
                    let file = OpenOptions::new().append(true).create(true).open(&self.path);
                    file.and_then(|mut file| writeln!(file, "{point}")).map_err(|_| Errno::EIO)
                }
                Deed::Errno(errno) => Err(errno),
                Deed::Answer(_) | Deed::Cut | Deed::Lose | Deed::Interrupt => Ok(()),
            }
        }
    }

    /// A point on the way. An error is one that was asked for.
    ///
    /// # Errors
    /// The errno that the fault names.
    pub fn reach(point: &'static str) -> Result<(), Errno> {
        fault_at(point).map_or(Ok(()), |fault| fault.strike(point))
    }

    /// A point behind a step of the plan, or of the way to it.
    ///
    /// # Errors
    /// [`Cause::Internal`] where a failure was asked for.
    pub fn step(point: &'static str) -> Result<(), Failure> {
        let asked_for = |errno| Failure::new("go on", Cause::Internal(format!("{errno:?} was asked for at {point}")));
        reach(point).map_err(asked_for)
    }

    /// A datagram that is about to be sent. `false`: it is not to be.
    ///
    /// # Errors
    /// The errno that the fault names.
    pub fn send() -> Result<bool, Errno> {
        let Some(fault) = fault_at("send") else { return Ok(true) };
        fault.strike("send")?;
        Ok(fault.deed != Deed::Lose)
    }

    /// A datagram that the kernel sent: the first `length` bytes of `buffer`. What is returned is its length; `None` where
    /// it is not to be heard.
    ///
    /// # Errors
    /// The errno that the fault names.
    pub fn hear(buffer: &mut [u8], length: usize) -> Result<Option<usize>, Errno> {
        let Some(fault) = fault_at("hear") else { return Ok(Some(length)) };
        fault.strike("hear")?;
        match fault.deed {
            Deed::Kill | Deed::Wait | Deed::Trace | Deed::Errno(_) => {}
            Deed::Lose => return Ok(None),
            Deed::Cut => return Ok(Some(length / 2)),
            Deed::Answer(errno) => {
                // The number of the request stays: it is its answer.
                buffer[..4].copy_from_slice(&(REFUSAL as u32).to_ne_bytes());
                buffer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
                buffer[6..8].copy_from_slice(&0_u16.to_ne_bytes());
                buffer[HEADER..REFUSAL].copy_from_slice(&(-(errno as i32)).to_ne_bytes());
                return Ok(Some(REFUSAL));
            }
            Deed::Interrupt => {
                let mut at = 0;
                while at + HEADER <= length {
                    let bytes = &mut buffer[at..at + HEADER];
                    let size = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
                    let flags = u16::from_ne_bytes([bytes[6], bytes[7]]) | NLM_F_DUMP_INTR;
                    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
                    at += size.max(HEADER).next_multiple_of(4);
                }
            }
        }
        Ok(Some(length))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_fault_is_read_as_it_is_written() {
            let fault = parse("errno:28 record 2").unwrap();
            assert_eq!((fault.deed, fault.point.as_str(), fault.nth), (Deed::Errno(Errno::ENOSPC), "record", 2));
            let fault = parse("wait * 0 /tmp/f").unwrap();
            assert_eq!((fault.deed, fault.nth, fault.path), (Deed::Wait, 0, "/tmp/f".into()));
            for text in ["", "kill", "kill *", "kill * x", "die * 1", "errno:x * 1"] {
                assert!(parse(text).is_none(), "{text:?}");
            }
        }
    }
}
