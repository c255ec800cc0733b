// SPDX-License-Identifier: Apache-2.0
//! The program of a [`Table`]: straight on, without a jump. The kernel's verifier takes some 5 µs for each conditional jump, and more the
//! more there are; for an instruction that computes a tenth of that. A program that jumps less is loaded in half the time, by every create.
//!
//! What is refused is computed instead. It begins as what the rule for all other devices refuses, and each [`Cell`] of the table that the
//! request is in turns some bits of it over. A request is in a cell if a number is 0 that is made of the device's numbers and the cell's
//! by exclusive or; of these numbers less one, only that of a match has its highest bit set.

use super::{Major, Rule, Table, access, table};
use crate::linux::types::BpfInsn;
use crate::spec::Problem;

/// The longest program this compiler makes. All of it runs whenever a container opens a device; the kernel takes a million instructions.
const MAX_INSNS: usize = 1 << 15;

/// Compiles the rules.
pub fn program(rules: &[Rule], at: &str) -> Result<Vec<BpfInsn>, Problem> {
    let table = table(rules);
    let mut code = Code::default();
    // ctx is struct bpf_cgroup_dev_ctx: access_type (type in the low 16 bits, access in the high), major, minor.
    code.load(ACCESS, 0);
    code.load(MAJOR, 4);
    code.load(MINOR, 8);
    let kinds = table.character != table.block;
    if kinds {
        code.mov(VALUE, ACCESS);
        code.push(ALU64 | AND | K, VALUE, 0, DEV_BLOCK);
        code.push(ALU64 | LSH | K, VALUE, 0, KIND_SHIFT);
        code.push(ALU64 | OR | X, MAJOR, VALUE, 0);
    }
    code.push(ALU64 | RSH | K, ACCESS, 0, 16);
    let cells = cells(&table, kinds);
    if cells.iter().any(|cell| matches!(cell.minors, Minors::Set { .. })) {
        code.mov(ROW, MINOR);
        code.push(ALU64 | RSH | K, ROW, 0, ROW_SHIFT);
    }
    code.push(ALU64 | MOV | K, RESULT, 0, i32::from(access::ALL & !others(&table.character)));
    for group in cells.chunk_by(|one, other| one.turns == other.turns) {
        code.cells(group);
        if code.insns.len() > MAX_INSNS {
            return Err(Problem::new(
                at,
                format!("these rules make a program of more than {MAX_INSNS} instructions: use wildcards"),
            ));
        }
    }
    // Nothing that is asked for may be refused.
    code.push(ALU64 | AND | X, RESULT, ACCESS, 0);
    code.push(ALU64 | SUB | K, RESULT, 0, 1);
    code.push(ALU64 | RSH | K, RESULT, 0, 63);
    code.push(JMP | EXIT, 0, 0, 0);
    Ok(code.insns)
}

/// What all majors that are not listed grant, but for minors of their own.
fn others(majors: &[Major]) -> u8 {
    majors.last().map_or(0, |last| last.others)
}

/// Devices for which something else is refused than the cells before say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    /// Bits of what is refused that are turned over.
    turns: u8,
    /// Block devices, or else character devices; none for both.
    block: Option<bool>,
    /// None for all.
    major: Option<u32>,
    minors: Minors,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Minors {
    All,
    One(u32),
    /// Of the minors from `row` × 64 on those whose bits are in `minors`, the first as the highest.
    Set {
        row: u32,
        minors: u64,
    },
}

/// The cells of a table, those that turn the same bits together.
fn cells(table: &Table, kinds: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    if !kinds {
        cells_of(&table.character, None, &mut cells);
    } else {
        let turns = others(&table.character) ^ others(&table.block);
        cells.push(Cell { turns, block: Some(true), major: None, minors: Minors::All });
        cells_of(&table.character, Some(false), &mut cells);
        cells_of(&table.block, Some(true), &mut cells);
    }
    cells.retain(|cell| cell.turns != 0);
    cells.sort_unstable();
    in_sets(cells)
}

fn cells_of(majors: &[Major], block: Option<bool>, cells: &mut Vec<Cell>) {
    let Some(last) = majors.last() else { return };
    let answer = |major: &Major, minor: u32| {
        major.minors.iter().find(|(number, _)| *number == minor).map_or(major.others, |(_, granted)| *granted)
    };
    for major in majors {
        // A minor number that has an answer of its own in all other majors has a cell that this major is in as well.
        let listed = if major.number.is_some() { &last.minors[..] } else { &[] };
        let mut minors: Vec<u32> = major.minors.iter().chain(listed).map(|(minor, _)| *minor).collect();
        minors.sort_unstable();
        minors.dedup();
        for minor in minors {
            let outer = if major.number.is_some() { answer(last, minor) ^ last.others } else { 0 };
            let turns = answer(major, minor) ^ major.others ^ outer;
            cells.push(Cell { turns, block, major: major.number, minors: Minors::One(minor) });
        }
        if major.number.is_some() {
            cells.push(Cell { turns: major.others ^ last.others, block, major: major.number, minors: Minors::All });
        }
    }
}

/// The same cells, with minors of one row in a set: sorted as they are, they follow one another.
fn in_sets(cells: Vec<Cell>) -> Vec<Cell> {
    let row = |cell: &Cell| match cell.minors {
        Minors::One(minor) => Some(minor >> ROW_SHIFT),
        _ => None,
    };
    let alike = |one: &Cell, other: &Cell| {
        row(one).is_some()
            && row(one) == row(other)
            && (one.turns, one.block, one.major) == (other.turns, other.block, other.major)
    };
    let merged = |group: &[Cell]| match (group, row(&group[0])) {
        ([_], _) | (_, None) => group[0],
        (_, Some(row)) => {
            let bit = |cell: &Cell| match cell.minors {
                Minors::One(minor) => 1 << 63 >> (minor % 64),
                _ => 0,
            };
            Cell { minors: Minors::Set { row, minors: group.iter().map(bit).fold(0, |all: u64, bit| all | bit) }, ..group[0] }
        }
    };
    cells.chunk_by(alike).map(merged).collect()
}

// Registers, beside r1 for the context.
/// First what is refused, then the verdict.
const RESULT: u8 = 0;
/// What is asked for.
const ACCESS: u8 = 2;
const VALUE: u8 = 3;
/// The major number, and above it whether it is one of a block device.
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const OTHER: u8 = 6;
/// Its highest bit: whether the request is in an odd number of the cells so far.
const TURNS: u8 = 7;
/// The row of the minor number.
const ROW: u8 = 8;

/// BPF_DEVCG_DEV_BLOCK; the only other type is BPF_DEVCG_DEV_CHAR, 2.
const DEV_BLOCK: i32 = 1;
const KIND_SHIFT: i32 = 32;
/// Shifts by a register use its low six bits.
const ROW_SHIFT: i32 = 6;

// Parts of an operation: Documentation/bpf/standardization/instruction-set.rst.
const LDX_W_MEM: u8 = 0x61;
const LD_DW_IMM: u8 = 0x18;
const ALU32: u8 = 0x04;
const ALU64: u8 = 0x07;
const JMP: u8 = 0x05;
const SUB: u8 = 0x10;
const OR: u8 = 0x40;
const AND: u8 = 0x50;
const LSH: u8 = 0x60;
const RSH: u8 = 0x70;
const XOR: u8 = 0xa0;
const MOV: u8 = 0xb0;
const ARSH: u8 = 0xc0;
const EXIT: u8 = 0x90;
const K: u8 = 0x00;
const X: u8 = 0x08;

/// Instructions in the making.
#[derive(Default)]
struct Code {
    insns: Vec<BpfInsn>,
}

impl Code {
    fn push(&mut self, code: u8, destination: u8, source: u8, imm: i32) {
        self.insns.push(BpfInsn { code, regs: source << 4 | destination, off: 0, imm });
    }

    fn load(&mut self, register: u8, offset: i16) {
        self.insns.push(BpfInsn { code: LDX_W_MEM, regs: 1 << 4 | register, off: offset, imm: 0 });
    }

    fn mov(&mut self, destination: u8, source: u8) {
        self.push(ALU64 | MOV | X, destination, source, 0);
    }

    /// A number of 64 bits, in two instructions.
    fn set(&mut self, register: u8, number: u64) {
        self.push(LD_DW_IMM, register, 0, (number as u32).cast_signed());
        self.push(0, 0, 0, ((number >> 32) as u32).cast_signed());
    }

    /// Exclusive or of a register that holds no more than 32 bits.
    fn xor_small(&mut self, register: u8, number: u32) {
        if number != 0 {
            self.push(ALU32 | XOR | K, register, 0, number.cast_signed());
        }
    }

    /// Turns bits of what is refused over for requests that are in one of these cells; all turn the same.
    fn cells(&mut self, cells: &[Cell]) {
        for (index, cell) in cells.iter().enumerate() {
            let value = if index == 0 { TURNS } else { VALUE };
            self.cell(value, cell);
            if index > 0 {
                self.push(ALU64 | XOR | X, TURNS, VALUE, 0);
            }
        }
        self.push(ALU64 | ARSH | K, TURNS, 0, 63);
        self.push(ALU64 | AND | K, TURNS, 0, i32::from(cells[0].turns));
        self.push(ALU64 | XOR | X, RESULT, TURNS, 0);
    }

    /// Sets the highest bit of `value` where the request is in the cell, and not otherwise.
    fn cell(&mut self, value: u8, cell: &Cell) {
        let empty = self.device(value, cell);
        let source = match cell.minors {
            Minors::All => None,
            Minors::One(minor) => Some((MINOR, minor)),
            Minors::Set { row, .. } => Some((ROW, row)),
        };
        if let Some((register, number)) = source {
            let part = if empty { value } else { OTHER };
            self.mov(part, register);
            self.xor_small(part, number);
            if !empty {
                self.push(ALU64 | OR | X, value, OTHER, 0);
            }
        }
        self.push(ALU64 | SUB | K, value, 0, 1);
        if let Minors::Set { minors, .. } = cell.minors {
            self.set(OTHER, minors);
            self.push(ALU64 | LSH | X, OTHER, MINOR, 0);
            self.push(ALU64 | AND | X, value, OTHER, 0);
        }
    }

    /// Makes `value` 0 for the cell's kind and major number, and not otherwise. Whether the cell has neither.
    fn device(&mut self, value: u8, cell: &Cell) -> bool {
        match (cell.major, cell.block) {
            (None, None) => return true,
            (None, Some(block)) => {
                self.mov(value, MAJOR);
                self.push(ALU64 | RSH | K, value, 0, KIND_SHIFT);
                self.xor_small(value, u32::from(block));
            }
            (Some(major), None) => {
                self.mov(value, MAJOR);
                self.xor_small(value, major);
            }
            (Some(major), Some(block)) => {
                let number = u64::from(block) << KIND_SHIFT | u64::from(major);
                match i32::try_from(number) {
                    Ok(number) => {
                        self.mov(value, MAJOR);
                        self.push(ALU64 | XOR | K, value, 0, number);
                    }
                    Err(_) => {
                        self.set(value, number);
                        self.push(ALU64 | XOR | X, value, MAJOR, 0);
                    }
                }
            }
        }
        false
    }
}
