//! Tests as blocks of a program: each goes on at one place when it holds and at
//! another when it doesn't, always further on.

use weir_engine::rule::format::Insn;

use crate::node::{Alu, Compare, Node, Operand, Size, Step, Test};

/// Where a block goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Block(usize),
    Accept,
    Reject,
}

/// A test, and where it leads.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) test: Test,
    pub(crate) on_true: Target,
    pub(crate) on_false: Target,
}

/// Blocks in an order in which every one leads to later ones only.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    pub(crate) entry: Target,
    pub(crate) blocks: Vec<Block>,
}

/// A place that is named before it is known.
#[derive(Clone, Copy)]
enum Label {
    Unknown,
    Same(usize),
    Is(Target),
}

struct Layout {
    labels: Vec<Label>,
    /// Tests with the labels they lead to.
    blocks: Vec<(Test, usize, usize)>,
}

const ACCEPT: usize = 0;
const REJECT: usize = 1;
const ENTRY: usize = 2;

impl Blocks {
    pub(crate) fn new(node: Node) -> Self {
        let mut layout = Layout {
            labels: vec![
                Label::Is(Target::Accept),
                Label::Is(Target::Reject),
                Label::Unknown,
            ],
            blocks: Vec::new(),
        };
        layout.place(node, ENTRY, ACCEPT, REJECT);
        let entry = layout.resolve(ENTRY);
        let targets: Vec<(Target, Target)> = layout
            .blocks
            .iter()
            .map(|(_, yes, no)| (layout.resolve(*yes), layout.resolve(*no)))
            .collect();
        let blocks = layout
            .blocks
            .into_iter()
            .zip(targets)
            .map(|((test, _, _), (on_true, on_false))| Block {
                test,
                on_true,
                on_false,
            })
            .collect();
        Self { entry, blocks }
    }

    /// Leaves out the blocks nothing leads to.
    pub(crate) fn prune(&mut self) {
        let mut used = vec![false; self.blocks.len()];
        let mark = |used: &mut Vec<bool>, target| {
            if let Target::Block(index) = target {
                used[index] = true;
            }
        };
        mark(&mut used, self.entry);
        for index in 0..self.blocks.len() {
            if used[index] {
                mark(&mut used, self.blocks[index].on_true);
                mark(&mut used, self.blocks[index].on_false);
            }
        }
        let mut renumbered = Vec::with_capacity(used.len());
        let mut count = 0;
        for used in &used {
            renumbered.push(count);
            count += usize::from(*used);
        }
        let renumber = |target| match target {
            Target::Block(index) => Target::Block(renumbered[index]),
            other => other,
        };
        self.entry = renumber(self.entry);
        let mut keep = used.into_iter();
        self.blocks.retain(|_| keep.next().unwrap_or(false));
        for block in &mut self.blocks {
            block.on_true = renumber(block.on_true);
            block.on_false = renumber(block.on_false);
        }
    }

    /// How many instructions [`Self::code`] makes.
    pub(crate) fn code_len(&self) -> usize {
        self.blocks
            .iter()
            .map(|block| block.test.steps.len() + 1)
            .sum::<usize>()
            + 2
    }

    /// The program. Not longer than jumps reach: the caller has checked
    /// [`Self::code_len`].
    pub(crate) fn code(&self) -> Vec<Insn> {
        let mut starts = Vec::with_capacity(self.blocks.len());
        let mut end = 0;
        for block in &self.blocks {
            starts.push(end);
            end += block.test.steps.len() + 1;
        }
        let leads = |target| {
            let all = || self.blocks.iter().flat_map(|b| [b.on_true, b.on_false]);
            self.entry == target || all().any(|other| other == target)
        };
        let accepts = leads(Target::Accept);
        let place = |target| match target {
            Target::Block(index) => starts[index],
            Target::Accept => end,
            Target::Reject => end + usize::from(accepts),
        };
        let mut code = Vec::with_capacity(end + 2);
        for block in &self.blocks {
            code.extend(block.test.steps.iter().map(|step| insn(*step)));
            let next = code.len() + 1;
            let distance = |target| u16::try_from(place(target) - next).unwrap_or(u16::MAX);
            let (source, k) = match block.test.operand {
                Operand::K(k) => (0, k),
                Operand::X => (X, 0),
            };
            let compare = match block.test.compare {
                Compare::Equal => 0x10,
                Compare::Greater => 0x20,
                Compare::GreaterEqual => 0x30,
                Compare::AnyBit => 0x40,
            };
            code.push(Insn {
                code: JMP | compare | source,
                jt: distance(block.on_true),
                jf: distance(block.on_false),
                reserved: 0,
                k,
            });
        }
        if accepts {
            code.push(plain(RET, u32::MAX));
        }
        if leads(Target::Reject) {
            code.push(plain(RET, 0));
        }
        code
    }
}

impl Layout {
    fn label(&mut self) -> usize {
        self.labels.push(Label::Unknown);
        self.labels.len() - 1
    }

    /// Places what starts at `entry` and leads to `yes` or `no`.
    fn place(&mut self, node: Node, entry: usize, yes: usize, no: usize) {
        match node {
            Node::Const(value) => self.labels[entry] = Label::Same(if value { yes } else { no }),
            Node::Test(test) => {
                self.labels[entry] = Label::Is(Target::Block(self.blocks.len()));
                self.blocks.push((test, yes, no));
            }
            Node::Not(inner) => self.place(*inner, entry, no, yes),
            Node::And(nodes) => self.place_all(nodes, entry, |next| (next, no), yes, no),
            Node::Or(nodes) => self.place_all(nodes, entry, |next| (yes, next), yes, no),
        }
    }

    fn place_all(
        &mut self,
        nodes: Vec<Node>,
        entry: usize,
        between: impl Fn(usize) -> (usize, usize),
        yes: usize,
        no: usize,
    ) {
        let mut start = entry;
        let mut nodes = nodes.into_iter().peekable();
        while let Some(node) = nodes.next() {
            if nodes.peek().is_none() {
                self.place(node, start, yes, no);
                return;
            }
            let next = self.label();
            let (on_true, on_false) = between(next);
            self.place(node, start, on_true, on_false);
            start = next;
        }
    }

    fn resolve(&self, label: usize) -> Target {
        let mut label = label;
        loop {
            match self.labels[label] {
                Label::Is(target) => return target,
                Label::Same(other) => label = other,
                // Nothing leads to a label that was never placed.
                Label::Unknown => return Target::Reject,
            }
        }
    }
}

const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const X: u16 = 0x08;

fn plain(code: u16, k: u32) -> Insn {
    Insn {
        code,
        jt: 0,
        jf: 0,
        reserved: 0,
        k,
    }
}

fn insn(step: Step) -> Insn {
    let width = |size| match size {
        Size::Word => 0x00,
        Size::Half => 0x08,
        Size::Byte => 0x10,
    };
    match step {
        Step::Load { size, at } => plain(0x20 | width(size), at),
        Step::LoadX { size, at } => plain(0x40 | width(size), at),
        Step::HeaderLen { at } => plain(0xb1, at),
        Step::Len => plain(0x80, 0),
        Step::Imm(k) => plain(0x00, k),
        Step::Recall(word) => plain(0x60, word),
        Step::Store(word) => plain(0x02, word),
        Step::ToX => plain(0x07, 0),
        Step::AluK(alu, k) => plain(ALU | operation(alu), k),
        Step::AluX(alu) => plain(ALU | X | operation(alu), 0),
        Step::Neg => plain(ALU | 0x80, 0),
    }
}

fn operation(alu: Alu) -> u16 {
    match alu {
        Alu::Add => 0x00,
        Alu::Sub => 0x10,
        Alu::Mul => 0x20,
        Alu::Div => 0x30,
        Alu::Or => 0x40,
        Alu::And => 0x50,
        Alu::Shl => 0x60,
        Alu::Shr => 0x70,
        Alu::Mod => 0x90,
        Alu::Xor => 0xa0,
    }
}
