// SPDX-License-Identifier: Apache-2.0
//! A program that makes one system call and ends with its errno: what a seccomp filter does to any number, on any of x86's three
//! calling conventions, without a compiler. x86_64 only.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Bundle, skip};

/// Added to the number of a call of the x32 convention (asm/unistd.h).
pub const X32: u32 = 0x4000_0000;

/// How the call is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    /// `syscall`, of x86_64 and x32.
    Syscall,
    /// `int $0x80`, of i386.
    Int80,
}

/// Puts the program at `path` of the rootfs. Its arguments are `first` and 0; it ends with 0 where the call succeeds.
pub fn one_call(bundle: &Bundle, path: &str, convention: Convention, number: u32, first: u32) {
    if std::env::consts::ARCH != "x86_64" {
        skip("the program that makes one call is x86_64 machine code");
    }
    let file = bundle.inside(path);
    fs::write(&file, program(convention, number, first)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn program(convention: Convention, number: u32, first: u32) -> Vec<u8> {
    // The registers of the first three arguments: edi, esi, edx or ebx, ecx, edx.
    let (registers, call) = match convention {
        Convention::Syscall => ([0xbf, 0xbe, 0xba], [0x0f, 0x05]),
        Convention::Int80 => ([0xbb, 0xb9, 0xba], [0xcd, 0x80]),
    };
    let load = |register: u8, value: u32| [&[register][..], &value.to_le_bytes()].concat();
    let mut code = load(0xb8, number); // mov eax, number
    for (register, value) in registers.into_iter().zip([first, 0, 0]) {
        code.extend(load(register, value));
    }
    code.extend(call);
    code.extend([0xf7, 0xd8]); // neg eax
    code.extend([0x31, 0xff]); // xor edi, edi
    code.extend(load(0x3d, 4096)); // cmp eax, 4096
    code.extend([0x0f, 0x42, 0xf8]); // cmovb edi, eax
    code.extend(load(0xb8, 231)); // mov eax, exit_group
    code.extend([0x0f, 0x05]); // syscall
    [header(code.len() as u64), code].concat()
}

/// elf(5): a header and one segment, which is the whole file.
fn header(code: u64) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    const BASE: u64 = 0x40_0000;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2u16, 62] {
        elf.extend(half.to_le_bytes()); // ET_EXEC, EM_X86_64
    }
    elf.extend(1u32.to_le_bytes());
    for long in [BASE + HEADERS, 64, 0] {
        elf.extend(long.to_le_bytes()); // entry, program headers, no section headers
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1u32, 5] {
        elf.extend(word.to_le_bytes()); // PT_LOAD, readable and executable
    }
    for long in [0, BASE, BASE, HEADERS + code, HEADERS + code, 0x1000] {
        elf.extend(long.to_le_bytes());
    }
    elf
}
