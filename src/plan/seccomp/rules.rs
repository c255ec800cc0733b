// SPDX-License-Identifier: Apache-2.0
//! From the calls that a profile names to what each number of an architecture is to get: the first
//! step of `compile`, shared with `explain`. The meaning is described in the module's text.

use super::arch::Arch;
use super::precedence;
use super::syscall::Column;
use super::{Action, Condition, ENOSYS, Error, Op, Options, Profile, Rule};

/// A rule that concerns a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    number: u32,
    rule: u32,
    /// If `number` is a multiplexer: the subcall that the rule is about.
    call: Option<u8>,
}

/// The numbers that a profile speaks of on one architecture.
///
/// Of most numbers one rule without conditions is all that is said: those have a table, and only the others a list, which is sorted.
pub(super) struct Numbers {
    arch: Arch,
    /// The first rule without conditions, by number from [`Arch::first_number`] on: [`NONE`], or its index.
    plain: [u16; MOST],
    /// Rules with conditions, rules about a subcall, and numbers that have no place in the table: by number, then by order in the profile.
    uses: Vec<Use>,
    /// The highest number that the profile names; `None` if it names none but 0.
    pub(super) highest: Option<u32>,
}

/// Numbers have a place in the table, but for ARM's private calls.
const MOST: usize = 640;
const NONE: u16 = u16::MAX;

/// What is said of a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    /// The first rule without conditions.
    plain: Option<u32>,
    /// The others.
    uses: &'a [Use],
}

impl Numbers {
    /// What is said of this number.
    pub(super) fn said(&self, number: u32) -> Said<'_> {
        let from = self.uses.partition_point(|used| used.number < number);
        let to = self.uses.partition_point(|used| used.number <= number);
        let place = number.checked_sub(self.arch.first_number()).and_then(|place| self.plain.get(place as usize));
        Said { plain: place.filter(|rule| **rule != NONE).map(|rule| u32::from(*rule)), uses: &self.uses[from..to] }
    }

    /// All that is said, as if it were of one number.
    #[cfg(test)]
    pub(super) fn only(&self) -> Said<'_> {
        let plain = self.plain.iter().find(|rule| **rule != NONE).map(|rule| u32::from(*rule));
        Said { plain, uses: &self.uses }
    }

    /// Every number that something is said of, in their order.
    pub(super) fn each(&self) -> Each<'_> {
        let first = self.arch.first_number();
        let top = self.highest.map_or(1, |highest| ((highest - first) as usize + 1).min(MOST));
        Each { first, place: 0, plain: &self.plain[..top], uses: &self.uses }
    }
}

/// What [`Numbers::each`] gives: the first of numbers side by side of which the same is said, how many they are, and what that is.
pub(super) struct Each<'a> {
    first: u32,
    place: usize,
    plain: &'a [u16],
    uses: &'a [Use],
}

impl<'a> Iterator for Each<'a> {
    type Item = (u32, u32, Said<'a>);

    fn next(&mut self) -> Option<(u32, u32, Said<'a>)> {
        let listed = self.uses.first().map_or(u32::MAX, |used| used.number);
        // Where in the table that is, or behind it.
        let wall = self.plain.len().min((listed - self.first) as usize);
        while self.place < wall && self.plain[self.place] == NONE {
            self.place += 1;
        }
        let begun = self.place;
        if begun < wall {
            let rule = self.plain[begun];
            while self.place < wall && self.plain[self.place] == rule {
                self.place += 1;
            }
            let said = Said { plain: Some(rule.into()), uses: &[] };
            return Some((self.first + begun as u32, (self.place - begun) as u32, said));
        }
        let uses = self.uses.chunk_by(|one, other| one.number == other.number).next()?;
        self.uses = &self.uses[uses.len()..];
        let plain = self.plain.get(wall).filter(|rule| **rule != NONE).map(|rule| u32::from(*rule));
        self.place = (wall + 1).min(self.plain.len());
        Some((listed, 1, Said { plain, uses }))
    }
}

/// Conditions that must all hold, and what happens then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clause {
    pub(super) action: Action,
    /// Which rule it comes from.
    pub(super) rule: usize,
    /// By argument, reduced to what the architecture compares.
    conditions: [Option<Condition>; 6],
}

/// What a number gets.
pub(super) enum Answer {
    /// The same, whatever the arguments.
    Always(Action, usize),
    /// What the first matching clause says, else the default action.
    First(Vec<Clause>),
}

/// Checks what is wrong on any architecture. Returns the names that none knows.
pub(super) fn check(profile: &Profile<'_>) -> Result<Vec<String>, Error> {
    if profile.default_action == Action::Notify {
        return Err(Error::NotifyDefault);
    }
    let mut unknown = Vec::new();
    for (i, rule) in profile.rules.iter().enumerate() {
        if rule.action != profile.default_action {
            check_conditions(i, rule)?;
        }
        for name in rule.names.unknown() {
            match name.is_empty() {
                true => return Err(Error::EmptyName { rule: i }),
                false => unknown.push(name.to_string()),
            }
        }
        if rule.action == Action::Notify && rule.names.contains("write") {
            return Err(Error::NotifyWrite { rule: i });
        }
    }
    Ok(unknown)
}

fn check_conditions(rule: usize, checked: &Rule<'_>) -> Result<(), Error> {
    match checked.args.iter().enumerate().find(|(_, c)| c.index > 5) {
        Some((arg, condition)) => Err(Error::ArgIndex { rule, arg, index: condition.index }),
        None => Ok(()),
    }
}

/// The architectures of the filter, grouped by what the kernel reports, the native one first.
pub(super) fn architectures(profile: &Profile<'_>, native: Arch) -> Result<Vec<(u32, Vec<Arch>)>, Error> {
    let mut families: Vec<(u32, Vec<Arch>)> = Vec::with_capacity(4);
    for arch in std::iter::once(native).chain(profile.architectures.iter().copied()) {
        if arch.is_big_endian() != native.is_big_endian() {
            return Err(Error::ByteOrder { arch, native });
        }
        match families.iter_mut().find(|(audit, _)| *audit == arch.audit()) {
            Some((_, members)) if members.contains(&arch) => {}
            Some((_, members)) => members.push(arch),
            None => families.push((arch.audit(), vec![arch])),
        }
    }
    Ok(families)
}

/// Whether newer system calls get ENOSYS under this profile.
pub(super) fn answers_newer(profile: &Profile<'_>, options: Options) -> bool {
    options.newer_is_enosys && !profile.default_action.is_permissive() && profile.default_action != Action::Errno(ENOSYS)
}

/// The numbers that the profile speaks of on one architecture.
pub(super) fn numbers(profile: &Profile<'_>, arch: Arch) -> Numbers {
    let (column, first) = (Column::of(arch), arch.first_number());
    let mut numbers = Numbers { arch, plain: [NONE; MOST], uses: Vec::new(), highest: None };
    let (mut highest, mut top) = (first, 0);
    for (rule, given) in (0..).zip(&profile.rules) {
        // A rule that repeats the default action says nothing, but its names are known.
        let silent = given.action == profile.default_action;
        let table = !silent && given.args.is_empty() && rule < u32::from(NONE);
        for syscall in given.names.known() {
            // Nearly all names of a profile, on each of its architectures.
            let short = column.short(syscall);
            if let Some(place) = numbers.plain.get_mut(usize::from(short)).filter(|_| table) {
                *place = if *place == NONE { rule as u16 } else { *place };
                top = top.max(short);
            } else if let Some(number) = column.number(syscall) {
                highest = highest.max(number);
                numbers.uses.extend((!silent).then_some(Use { number, rule, call: None }));
            }
        }
        for subcall in column.subcalls(given.names.known()) {
            highest = highest.max(subcall.number);
            numbers.uses.extend((!silent).then_some(Use { number: subcall.number, rule, call: Some(subcall.call) }));
        }
    }
    // They are few, and mostly stand in their order.
    sort(&mut numbers.uses);
    let highest = highest.max(first + u32::from(top));
    numbers.highest = (highest > first).then_some(highest);
    numbers
}

/// By number; those of the same number stay in their order.
fn sort(uses: &mut [Use]) {
    /// The standard library's way takes a page of the stack.
    const MANY: usize = 200;
    if uses.len() > MANY {
        return uses.sort_by_key(|used| used.number);
    }
    for end in 1..uses.len() {
        let used = uses[end];
        let mut place = end;
        while place > 0 && uses[place - 1].number > used.number {
            uses[place] = uses[place - 1];
            place -= 1;
        }
        uses[place] = used;
    }
}

/// What a number gets, from all that is said of it.
pub(super) fn answer(profile: &Profile<'_>, said: Said<'_>, arch: Arch) -> Answer {
    let always = |rule: usize| Answer::Always(profile.rules[rule].action, rule);
    let mut clauses = Vec::new();
    for used in said.uses {
        let i = used.rule as usize;
        let rule = &profile.rules[i];
        match said.plain {
            Some(plain) if plain < used.rule => break,
            None if rule.args.is_empty() && used.call.is_none() => return always(i),
            _ => {}
        }
        for conditions in separate(&rule.args) {
            let clause = Clause::new(rule.action, i, conditions, used.call, arch);
            if clause.conditions().next().is_none() {
                return always(i);
            }
            clauses.push(clause);
        }
    }
    if let Some(plain) = said.plain {
        return always(plain as usize);
    }
    if clauses.iter().any(|c| c.action != clauses[0].action) {
        precedence::sort(&mut clauses, arch);
    }
    Answer::First(clauses)
}

/// If an argument occurs twice, each condition stands alone.
fn separate(args: &[Condition]) -> std::slice::Chunks<'_, Condition> {
    let mut seen = 0_u8;
    let repeated = args.iter().any(|c| {
        let bit = 1 << (c.index & 7);
        let again = seen & bit != 0;
        seen |= bit;
        again
    });
    // An empty list has no chunks: the caller deals with rules without conditions, but a subcall
    // without further conditions needs its one clause.
    let together = if args.is_empty() { HOLDS } else { args };
    together.chunks(if repeated { 1 } else { together.len() })
}

/// One condition that always holds, so that it is dropped by [`Clause::new`].
const HOLDS: &[Condition] = &[Condition { index: 0, value: 0, value_two: 0, op: Op::MaskedEq }];

impl Clause {
    fn new(action: Action, rule: usize, args: &[Condition], call: Option<u8>, arch: Arch) -> Clause {
        let mut conditions = [None; 6];
        for condition in args {
            conditions[condition.index as usize] = reduce(*condition, arch);
        }
        if let Some(call) = call {
            conditions[0] = Some(Condition { index: 0, value: call.into(), value_two: 0, op: Op::Eq });
        }
        Clause { action, rule, conditions }
    }

    /// Its conditions, by argument.
    pub(super) fn conditions(&self) -> impl DoubleEndedIterator<Item = &Condition> {
        self.conditions.iter().flatten()
    }

    /// Whether it matches these arguments.
    pub(super) fn matches(&self, args: &[u64; 6], arch: Arch) -> bool {
        self.conditions().all(|c| holds(c, args[c.index as usize], arch))
    }
}

/// Whether a condition holds for its argument.
pub(super) fn holds(c: &Condition, arg: u64, arch: Arch) -> bool {
    let arg = if arch.is_wide() { arg } else { arg & LOW };
    match c.op {
        Op::Ne => arg != c.value,
        Op::Lt => arg < c.value,
        Op::Le => arg <= c.value,
        Op::Eq => arg == c.value,
        Op::Ge => arg >= c.value,
        Op::Gt => arg > c.value,
        Op::MaskedEq => arg & c.value == c.value_two,
    }
}

/// The low half of an argument.
const LOW: u64 = 0xffff_ffff;

/// A condition as the architecture compares it; `None` if it always holds because of its mask.
fn reduce(mut condition: Condition, arch: Arch) -> Option<Condition> {
    if !arch.is_wide() {
        condition.value &= LOW;
        condition.value_two &= LOW;
    }
    if condition.op == Op::MaskedEq {
        condition.value_two &= condition.value;
        if condition.value == 0 {
            return None;
        }
    }
    Some(condition)
}
