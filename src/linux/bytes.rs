// SPDX-License-Identifier: Apache-2.0
//! Copying and comparing bytes: memcpy(3), memmove(3), memcmp(3) and bcmp(3) of a program that is linked against musl.
//!
//! What the program copies and compares is short: of 3,900 copies of a run 3,350 are of 16 bytes and less. musl is made to be small: it
//! copies by `rep movsq`, which takes the processor some 70 cycles to begin with, and compares one byte after the other. These read the
//! beginning and the end of what is short, which may overlap, and nothing in between. Like all code for this processor they use SSE2.
//!
//! Elsewhere the C library's functions are used, which are as good as these or better.

use core::arch::naked_asm;

// Up to 64 bytes everything is read before anything is written, so that it does not matter whether the places overlap. Of more, what
// the loop writes last is read first.
/// memmove(3), and so memcpy(3).
///
/// # Safety
/// `from` can be read and `to` written for `count` bytes.
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(export_name = "memmove"))]
pub unsafe extern "C" fn copy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "ja 3f",
        "cmp edx, 8",
        "jae 2f",
        "cmp edx, 4",
        "jae 22f",
        "test edx, edx",
        "jz 9f",
        // 1 to 3: the first, the middle and the last one.
        "movzx ecx, byte ptr [rsi]",
        "movzx r8d, byte ptr [rsi + rdx - 1]",
        "mov r10, rdx",
        "shr r10, 1",
        "movzx r9d, byte ptr [rsi + r10]",
        "mov [rdi], cl",
        "mov [rdi + r10], r9b",
        "mov [rdi + rdx - 1], r8b",
        "9: ret",
        "22:",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        "2:",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "3:",
        "movdqu xmm0, [rsi]",
        "movdqu xmm1, [rsi + rdx - 16]",
        "cmp rdx, 32",
        "ja 4f",
        "movdqu [rdi], xmm0",
        "movdqu [rdi + rdx - 16], xmm1",
        "ret",
        "4:",
        "movdqu xmm2, [rsi + 16]",
        "movdqu xmm3, [rsi + rdx - 32]",
        "cmp rdx, 64",
        "ja 5f",
        "movdqu [rdi], xmm0",
        "movdqu [rdi + 16], xmm2",
        "movdqu [rdi + rdx - 32], xmm3",
        "movdqu [rdi + rdx - 16], xmm1",
        "ret",
        "5:",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 7f",
        // Forwards, all but the last 1 to 32 bytes.
        "lea r8, [rdx - 32]",
        "xor ecx, ecx",
        "6:",
        "movdqu xmm4, [rsi + rcx]",
        "movdqu xmm5, [rsi + rcx + 16]",
        "movdqu [rdi + rcx], xmm4",
        "movdqu [rdi + rcx + 16], xmm5",
        "add rcx, 32",
        "cmp rcx, r8",
        "jb 6b",
        "movdqu [rdi + rdx - 32], xmm3",
        "movdqu [rdi + rdx - 16], xmm1",
        "ret",
        // Backwards, because the new place begins within the old one: all but the first 1 to 32 bytes.
        "7:",
        "mov rcx, rdx",
        "8:",
        "movdqu xmm4, [rsi + rcx - 32]",
        "movdqu xmm5, [rsi + rcx - 16]",
        "movdqu [rdi + rcx - 32], xmm4",
        "movdqu [rdi + rcx - 16], xmm5",
        "sub rcx, 32",
        "cmp rcx, 32",
        "ja 8b",
        "movdqu [rdi], xmm0",
        "movdqu [rdi + 16], xmm2",
        "ret",
    )
}

/// memcpy(3).
///
/// # Safety
/// As [`copy`].
#[cfg(target_env = "musl")]
#[unsafe(naked)]
#[unsafe(export_name = "memcpy")]
pub unsafe extern "C" fn copy_apart(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!("jmp {}", sym copy)
}

// The words are compared as numbers, and so that the first byte counts most.
/// memcmp(3): below, above or equal to 0.
///
/// # Safety
/// Both can be read for `count` bytes.
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(export_name = "memcmp"))]
pub unsafe extern "C" fn compare(one: *const u8, other: *const u8, count: usize) -> i32 {
    naked_asm!(
        "cmp rdx, 8",
        "jb 3f",
        "sub rdx, 8",
        "xor ecx, ecx",
        "22:",
        "cmp rcx, rdx",
        "jae 2f",
        "mov r8, [rdi + rcx]",
        "mov r9, [rsi + rcx]",
        "add rcx, 8",
        "cmp r8, r9",
        "je 22b",
        "jmp 5f",
        // The last eight.
        "2:",
        "mov r8, [rdi + rdx]",
        "mov r9, [rsi + rdx]",
        "cmp r8, r9",
        "jne 5f",
        "xor eax, eax",
        "ret",
        // 4 to 7: the first four and the last four, as one word.
        "3:",
        "cmp edx, 4",
        "jb 6f",
        "mov r8d, [rdi + rdx - 4]",
        "mov r9d, [rsi + rdx - 4]",
        "mov ecx, [rdi]",
        "mov r10d, [rsi]",
        "shl r8, 32",
        "shl r9, 32",
        "or r8, rcx",
        "or r9, r10",
        "cmp r8, r9",
        "jne 5f",
        "4:",
        "xor eax, eax",
        "ret",
        "5:",
        "bswap r8",
        "bswap r9",
        "cmp r8, r9",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
        "6:",
        "test edx, edx",
        "jz 4b",
        "7:",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "inc rdi",
        "inc rsi",
        "sub eax, ecx",
        "jne 8f",
        "dec edx",
        "jnz 7b",
        "8: ret",
    )
}

/// bcmp(3).
///
/// # Safety
/// As [`compare`].
#[cfg(target_env = "musl")]
#[unsafe(naked)]
#[unsafe(export_name = "bcmp")]
pub unsafe extern "C" fn differ(one: *const u8, other: *const u8, count: usize) -> i32 {
    naked_asm!("jmp {}", sym compare)
}

#[cfg(test)]
mod tests {
    use super::{compare, copy};

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    /// Every length up to some loops, apart and overlapping by every distance that the loops and the ends treat differently.
    #[test]
    fn copies_like_copy_within() {
        let bytes = noise(700);
        for length in 0..=200 {
            for from in [200, 201, 209] {
                for to in (from - 140..from + 140).chain([0, 420]) {
                    let (mut ours, mut theirs) = (bytes.clone(), bytes.clone());
                    theirs.copy_within(from..from + length, to);
                    // SAFETY: both places lie within `ours`.
                    let answer = unsafe {
                        let start = ours.as_mut_ptr();
                        copy(start.add(to), start.add(from), length) as usize - start as usize
                    };
                    assert!(ours == theirs && answer == to, "{length} bytes from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn compares_like_slices() {
        let bytes = noise(200);
        for length in 0..=70 {
            for at in 0..9 {
                let one = &bytes[at..at + length];
                for changed in (0..length).map(Some).chain([None]) {
                    let mut other = one.to_vec();
                    if let Some(place) = changed {
                        // What comes after the first difference says the opposite.
                        other[place] = other[place].wrapping_add(3);
                        other[place + 1..].iter_mut().for_each(|byte| *byte = byte.wrapping_sub(3));
                    }
                    // SAFETY: both are as long.
                    let (ours, back) =
                        unsafe { (compare(one.as_ptr(), other.as_ptr(), length), compare(other.as_ptr(), one.as_ptr(), length)) };
                    assert_eq!(ours.cmp(&0), one.cmp(&other[..]), "{length} bytes, {changed:?}");
                    assert_eq!(back.cmp(&0), other[..].cmp(one), "{length} bytes, {changed:?}");
                }
            }
        }
    }
}
