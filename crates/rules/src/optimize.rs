//! Shorter code of the same meaning: tests whose outcome is known are passed
//! over, loads of what is in a register already are left out.
//!
//! A load can end a program, so one is left out only where the same bytes have
//! been loaded before.

use crate::blocks::{Blocks, Target};
use crate::facts::{self, Facts, HEADER};
use crate::node::{Alu, Size, Step, Test};

/// What is known where a block starts.
#[derive(Clone)]
struct State {
    facts: Facts,
    /// Bytes the frame has at least: loads up to there succeed.
    at_hand: u32,
}

/// Frames, as far as is known, whose end may stop the program, though all that
/// a tuple is about is at hand.
pub(crate) type Stops = Vec<Facts>;

/// Makes tests lead past those whose outcome is known by then.
pub(crate) fn thread(blocks: &mut Blocks) -> Stops {
    let mut stops = Vec::new();
    let mut states: Vec<Option<State>> = vec![None; blocks.blocks.len()];
    if let Target::Block(first) = blocks.entry {
        states[first] = Some(State {
            facts: Facts::none(),
            at_hand: 0,
        });
    }
    for index in 0..blocks.blocks.len() {
        let Some(mut state) = states[index].take() else {
            continue;
        };
        let test = blocks.blocks[index].test.clone();
        if may_stop(&test, &state.facts) && !stops.contains(&state.facts) {
            stops.push(state.facts.clone());
        }
        state.at_hand = test
            .steps
            .iter()
            .fold(state.at_hand, |most, step| most.max(reach(*step)));
        for holds in [true, false] {
            let target = {
                let block = &blocks.blocks[index];
                if holds { block.on_true } else { block.on_false }
            };
            let after = facts::of_test(&test, holds).and_then(|now| state.facts.and(&now));
            let target = match after {
                // It never comes to this.
                None => {
                    let block = &blocks.blocks[index];
                    if holds { block.on_false } else { block.on_true }
                }
                Some(facts) => {
                    let state = State {
                        facts,
                        at_hand: state.at_hand,
                    };
                    let target = past_known(blocks, target, &state);
                    if let Target::Block(next) = target {
                        let joined = match states[next].take() {
                            None => state,
                            Some(other) => State {
                                facts: other.facts.or(&state.facts),
                                at_hand: other.at_hand.min(state.at_hand),
                            },
                        };
                        states[next] = Some(joined);
                    }
                    target
                }
            };
            let block = &mut blocks.blocks[index];
            *(if holds {
                &mut block.on_true
            } else {
                &mut block.on_false
            }) = target;
        }
    }
    stops
}

/// Where a way ends that passes over tests whose outcome is known.
fn past_known(blocks: &Blocks, target: Target, state: &State) -> Target {
    let mut target = target;
    while let Target::Block(index) = target {
        let block = &blocks.blocks[index];
        let loads_again = matches!(
            block.test.steps[..],
            [Step::Load { .. }] | [Step::Load { .. }, Step::AluK(Alu::And, _)]
        ) && block
            .test
            .steps
            .iter()
            .all(|step| reach(*step) <= state.at_hand);
        if !loads_again {
            break;
        }
        let can = |holds| {
            facts::of_test(&block.test, holds).is_some_and(|f| state.facts.and(&f).is_some())
        };
        target = match (can(true), can(false)) {
            (true, false) => block.on_true,
            (false, true) => block.on_false,
            _ => break,
        };
    }
    target
}

/// Bytes a frame has if a step succeeds.
fn reach(step: Step) -> u32 {
    match step {
        Step::Load { size, at } | Step::LoadX { size, at } => at.saturating_add(size.bytes()),
        Step::HeaderLen { at } => at.saturating_add(1),
        _ => 0,
    }
}

/// Whether a step can end the program on a frame that has all its headers.
fn may_stop(test: &Test, facts: &Facts) -> bool {
    let ethertype = facts.known(12, 2);
    let is_transport = |proto: Option<u32>| matches!(proto, Some(6 | 17 | 132));
    let ports4 = ethertype == Some(0x0800)
        && is_transport(facts.known(23, 1))
        && facts.mask[20] & 0x1f == 0x1f
        && facts.value[20] & 0x1f == 0
        && facts.known(21, 1) == Some(0);
    let headers = match ethertype {
        Some(0x0800) => 34,
        Some(0x86dd) if is_transport(facts.known(20, 1)) => 58,
        Some(0x86dd) => 54,
        Some(0x0806 | 0x8035) => 42,
        _ => 14,
    };
    test.steps.iter().any(|step| match *step {
        Step::Load { .. } | Step::HeaderLen { .. } => reach(*step) > headers,
        Step::LoadX { .. } => {
            let port = matches!(
                test.steps[..],
                [
                    Step::HeaderLen { at: HEADER },
                    Step::LoadX {
                        size: Size::Half,
                        at: 14 | 16
                    }
                ]
            );
            !(port && ports4)
        }
        Step::AluX(Alu::Div | Alu::Mod) => true,
        _ => false,
    })
}

/// What is in A where a block starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Load(Size, u32),
    Masked(Size, u32, u32),
    Behind(u32, Size, u32),
    Len,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Registers {
    a: Option<Held>,
    /// The offset whose header length is in X.
    x: Option<u32>,
}

/// Leaves loads out whose result is in the register already.
pub(crate) fn reuse(blocks: &mut Blocks) {
    let mut states: Vec<Option<Registers>> = vec![None; blocks.blocks.len()];
    if let Target::Block(first) = blocks.entry {
        states[first] = Some(Registers { a: None, x: None });
    }
    for index in 0..blocks.blocks.len() {
        let Some(mut registers) = states[index] else {
            continue;
        };
        let block = &mut blocks.blocks[index];
        let steps = &mut block.test.steps;
        let wanted = match steps[..] {
            [Step::Load { size, at }] => Some(Held::Load(size, at)),
            [Step::Load { size, at }, Step::AluK(Alu::And, mask)] => {
                Some(Held::Masked(size, at, mask))
            }
            [Step::HeaderLen { at: header }, Step::LoadX { size, at }] => {
                Some(Held::Behind(header, size, at))
            }
            [Step::Len] => Some(Held::Len),
            _ => None,
        };
        let mut x = registers.x;
        for step in steps.iter() {
            match *step {
                Step::HeaderLen { at } => x = Some(at),
                Step::ToX => x = None,
                _ => {}
            }
        }
        if wanted.is_some() && wanted == registers.a {
            steps.clear();
            x = registers.x;
        } else if let (Some(Held::Masked(size, at, _)), Some(Held::Load(has, from))) =
            (wanted, registers.a)
            && (size, at) == (has, from)
        {
            steps.remove(0);
        } else if let Some(Held::Behind(header, _, _)) = wanted
            && registers.x == Some(header)
        {
            steps.remove(0);
        }
        registers = Registers { a: wanted, x };
        for target in [block.on_true, block.on_false] {
            let Target::Block(next) = target else {
                continue;
            };
            let joined = match states[next] {
                None => registers,
                Some(other) => Registers {
                    a: other.a.filter(|_| other.a == registers.a),
                    x: other.x.filter(|_| other.x == registers.x),
                },
            };
            states[next] = Some(joined);
        }
    }
}
