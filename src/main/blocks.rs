//! Copying, filling and comparing memory, for a program that is linked with musl.
//!
//! What the compiler calls for these comes from the C library. musl's are as small as can be (`rep movsq` for anything, a byte at a
//! time for comparing), made for size; most of what is copied here is a few bytes long, and `rep` takes longer to begin than
//! to copy them. With these a start does 0.1 ms less. (glibc's choose by the processor, which it has to ask first: see
//! scripts/build.rs.)
//!
//! Everything is loaded before anything is stored, up to 128 bytes: so overlapping is no case of its own. No loop is the
//! compiler's to recognize: it would turn one into a call of the function that it stands in. Without optimization it makes calls of
//! less, so that a debug build keeps musl's.

use std::arch::asm;
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi8, _mm_storeu_si128};
use std::ffi::c_int;

/// A step of the loops, in bytes.
const STEP: usize = 64;

/// `count` bytes at one place as they would be at another: those of `T` at its beginning, and as many at its end.
///
/// # Safety
/// As [`memmove`]; `count` is no less than the size of `T`, and no more than twice that.
#[inline(always)]
unsafe fn both_ends<T: Copy>(to: *mut u8, from: *const u8, count: usize) {
    let behind = count - size_of::<T>();
    // SAFETY: within `count` bytes of both, by what is asked for.
    unsafe {
        let (first, last) = (from.cast::<T>().read_unaligned(), from.add(behind).cast::<T>().read_unaligned());
        to.cast::<T>().write_unaligned(first);
        to.add(behind).cast::<T>().write_unaligned(last);
    }
}

/// [`STEP`] bytes. Four values and no array, which the compiler might copy by a call of what is made of it here.
#[derive(Clone, Copy)]
struct Step(__m128i, __m128i, __m128i, __m128i);

#[inline(always)]
unsafe fn load(from: *const u8) -> Step {
    let from = from.cast::<__m128i>();
    // SAFETY: asked for by the callers: STEP bytes are there.
    unsafe {
        Step(
            _mm_loadu_si128(from),
            _mm_loadu_si128(from.add(1)),
            _mm_loadu_si128(from.add(2)),
            _mm_loadu_si128(from.add(3)),
        )
    }
}

#[inline(always)]
unsafe fn store(to: *mut u8, Step(a, b, c, d): Step) {
    let to = to.cast::<__m128i>();
    // SAFETY: asked for by the callers: there is room for STEP bytes.
    unsafe {
        _mm_storeu_si128(to, a);
        _mm_storeu_si128(to.add(1), b);
        _mm_storeu_si128(to.add(2), c);
        _mm_storeu_si128(to.add(3), d);
    }
}

/// memmove(3).
///
/// # Safety
/// `count` bytes can be read at `from` and written at `to`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: each arm stays within `count` bytes of both.
    unsafe {
        match count {
            0 => {}
            1 => *to = *from,
            2..=3 => both_ends::<u16>(to, from, count),
            4..=7 => both_ends::<u32>(to, from, count),
            8..=16 => both_ends::<u64>(to, from, count),
            17..=32 => {
                let (first, last) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(count - 16).cast()));
                _mm_storeu_si128(to.cast(), first);
                _mm_storeu_si128(to.add(count - 16).cast(), last);
            }
            33..=64 => {
                let (first, second) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast()));
                let last = (_mm_loadu_si128(from.add(count - 32).cast()), _mm_loadu_si128(from.add(count - 16).cast()));
                _mm_storeu_si128(to.cast(), first);
                _mm_storeu_si128(to.add(16).cast(), second);
                _mm_storeu_si128(to.add(count - 32).cast(), last.0);
                _mm_storeu_si128(to.add(count - 16).cast(), last.1);
            }
            65..=128 => {
                let (first, last) = (load(from), load(from.add(count - STEP)));
                store(to, first);
                store(to.add(count - STEP), last);
            }
            _ => long(to, from, count),
        }
    }
    to
}

/// The same for more than twice [`STEP`].
///
/// # Safety
/// As there.
unsafe fn long(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the loops move whole steps and stop before the last, whole or not, which was loaded before it could be written over.
    // They write no flag that has to be kept but those that asm! lets them, and four registers that they name.
    unsafe {
        if (to as usize).wrapping_sub(from as usize) >= count {
            let last = load(from.add(count - STEP));
            asm!(
                "2:",
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + 32]",
                "movups {d}, [{from} + 48]",
                "movups [{to}], {a}",
                "movups [{to} + 16], {b}",
                "movups [{to} + 32], {c}",
                "movups [{to} + 48], {d}",
                "add {from}, 64",
                "add {to}, 64",
                "sub {left}, 64",
                "cmp {left}, 64",
                "ja 2b",
                from = inout(reg) from => _, to = inout(reg) to => _, left = inout(reg) count => _,
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                options(nostack),
            );
            store(to.add(count - STEP), last);
        } else {
            let first = load(from);
            asm!(
                "2:",
                "movups {a}, [{from} + {left} - 16]",
                "movups {b}, [{from} + {left} - 32]",
                "movups {c}, [{from} + {left} - 48]",
                "movups {d}, [{from} + {left} - 64]",
                "movups [{to} + {left} - 16], {a}",
                "movups [{to} + {left} - 32], {b}",
                "movups [{to} + {left} - 48], {c}",
                "movups [{to} + {left} - 64], {d}",
                "sub {left}, 64",
                "cmp {left}, 64",
                "ja 2b",
                from = in(reg) from, to = in(reg) to, left = inout(reg) count => _,
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                options(nostack),
            );
            store(to, first);
        }
    }
}

/// memcpy(3).
///
/// # Safety
/// As [`memmove`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: as asked for.
    unsafe { memmove(to, from, count) }
}

/// memset(3).
///
/// # Safety
/// `count` bytes can be written at `to`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memset(to: *mut u8, byte: c_int, count: usize) -> *mut u8 {
    let eight = u64::from(byte as u8) * 0x0101_0101_0101_0101;
    // SAFETY: each arm stays within `count` bytes; the loop writes whole steps and stops before the last, whole or not.
    unsafe {
        let sixteen = _mm_set1_epi8(byte as i8);
        let step = Step(sixteen, sixteen, sixteen, sixteen);
        match count {
            0 => {}
            1 => *to = byte as u8,
            2..=3 => {
                to.cast::<u16>().write_unaligned(eight as u16);
                to.add(count - 2).cast::<u16>().write_unaligned(eight as u16);
            }
            4..=7 => {
                to.cast::<u32>().write_unaligned(eight as u32);
                to.add(count - 4).cast::<u32>().write_unaligned(eight as u32);
            }
            8..=15 => {
                to.cast::<u64>().write_unaligned(eight);
                to.add(count - 8).cast::<u64>().write_unaligned(eight);
            }
            16..=64 => {
                // Of those in the middle all or none are covered by the ends.
                _mm_storeu_si128(to.cast(), sixteen);
                _mm_storeu_si128(to.add((count - 16).min(16)).cast(), sixteen);
                _mm_storeu_si128(to.add((count - 16).saturating_sub(16)).cast(), sixteen);
                _mm_storeu_si128(to.add(count - 16).cast(), sixteen);
            }
            65..=128 => {
                store(to, step);
                store(to.add(count - STEP), step);
            }
            _ => {
                asm!(
                    "2:",
                    "movups [{to}], {a}",
                    "movups [{to} + 16], {a}",
                    "movups [{to} + 32], {a}",
                    "movups [{to} + 48], {a}",
                    "add {to}, 64",
                    "sub {left}, 64",
                    "cmp {left}, 64",
                    "ja 2b",
                    to = inout(reg) to => _, left = inout(reg) count => _, a = in(xmm_reg) sixteen,
                    options(nostack),
                );
                store(to.add(count - STEP), step);
            }
        }
    }
    to
}

/// memcmp(3).
///
/// # Safety
/// `count` bytes can be read at both.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> c_int {
    let (mut at, mut order) = (0, std::cmp::Ordering::Equal);
    // SAFETY: what is read lies before `count`; the last eight may have been compared in part.
    unsafe {
        if count < 8 {
            while at < count && order.is_eq() {
                order = (*one.add(at)).cmp(&*other.add(at));
                at += 1;
            }
        } else {
            let eight = |from: *const u8, at: usize| from.add(at).cast::<u64>().read_unaligned().to_be();
            while at + 8 < count && order.is_eq() {
                order = eight(one, at).cmp(&eight(other, at));
                at += 8;
            }
            order = order.then_with(|| eight(one, count - 8).cmp(&eight(other, count - 8)));
        }
    }
    order as c_int
}

/// bcmp(3): what the compiler calls where it wants to know no more than whether both are the same.
///
/// # Safety
/// As [`memcmp`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> c_int {
    // SAFETY: as asked for.
    unsafe { memcmp(one, other, count) }
}
