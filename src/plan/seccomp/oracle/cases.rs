// SPDX-License-Identifier: Apache-2.0
//! Which system calls the programs are asked about.

use std::collections::BTreeSet;

use super::super::interpret::{SeccompData, run};
use super::super::{Arch, SockFilter, Syscall, X32_SYSCALL_BIT};
use super::profile::Owned;

/// Values next to everything that a profile compares an argument with.
fn boundaries(owned: &Owned, index: u32) -> Vec<u64> {
    let mut values = BTreeSet::from([0, 1, u64::MAX, 0xffff_ffff, 1 << 32, 1 << 63]);
    for condition in owned.rules.iter().flat_map(|r| &r.2).filter(|c| c.index == index) {
        for v in [condition.value, condition.value_two, condition.value & condition.value_two] {
            for near in [v, v.wrapping_add(1), v.wrapping_sub(1)] {
                values.extend([near, near & 0xffff_ffff, near ^ (1 << 32), near | 0xffff_ffff_0000_0000, !near]);
            }
        }
    }
    if index == 0 {
        // subcalls of socketcall(2) and ipc(2)
        values.extend(0..26);
    }
    values.into_iter().collect()
}

/// Argument lists: each boundary alone, then mixtures in a fixed pseudo-random order.
pub(super) fn argument_lists(owned: &Owned, mixtures: usize) -> Vec<[u64; 6]> {
    let values: [Vec<u64>; 6] = std::array::from_fn(|i| boundaries(owned, i as u32));
    let mut lists = Vec::new();
    for (i, values) in values.iter().enumerate() {
        lists.extend(values.iter().map(|v| {
            let mut args = [0; 6];
            args[i] = *v;
            args
        }));
    }
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % bound
    };
    for _ in 0..mixtures {
        lists.push(std::array::from_fn(|i| values[i][next(values[i].len())]));
    }
    lists
}

/// Numbers worth asking about on every architecture.
pub(super) fn all_numbers() -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..600).collect();
    for base in [4000, 5000, 6000, X32_SYSCALL_BIT, 0xf_0000] {
        numbers.extend(base..base + 600);
    }
    numbers.extend([0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xbfff_ffff]);
    numbers.extend([0xc000_0000, 0xc000_0001, u32::MAX - 1, u32::MAX]);
    numbers
}

/// The numbers of a profile's own system calls on one architecture.
pub(super) fn own_numbers(owned: &Owned, arch: Arch) -> BTreeSet<u32> {
    let names = owned.rules.iter().flat_map(|r| &r.0);
    let syscalls = names.filter_map(Syscall::from_name);
    syscalls.flat_map(|s| [s.number(arch), s.subcall(arch).map(|c| c.number)]).flatten().collect()
}

/// What a program answers.
pub(in super::super) fn ask(program: &[SockFilter], native: Arch, audit: u32, nr: u32, args: &[u64; 6]) -> u32 {
    let data = SeccompData { nr, arch: audit, instruction_pointer: 0x7fff_1234_5678_9abc, args: *args };
    run(program, &data, native.is_big_endian()).unwrap().verdict
}
