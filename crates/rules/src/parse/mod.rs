//! The grammar of pcap-filter expressions. `and` and `or` bind equally tight,
//! from left to right; `not` binds tighter.
//!
//! A name or number without words before it repeats the words of what stands
//! before: `tcp dst port 80 or 443`. In pcap-filter's grammar such a thing is an
//! *id*, and what has words of its own a *term*; parentheses hold one kind only,
//! until a term opened them.

mod head;
mod number;
mod values;

use std::ops::Range;

use crate::Error;
use crate::build::{Builder, Qualifiers, Refusal, Value};
use crate::lex::{Kind, Token, Word, tokens};
use crate::node::Node;

/// Bytes of an expression, at most.
const MAX_LENGTH: usize = 65_535;
/// Parentheses, brackets and signs inside each other, at most.
const MAX_DEPTH: u32 = 100;
/// Changes between `and` and `or` inside each other, at most.
const MAX_NESTING: u32 = 400;
/// What stands between `and` and `or`, at most: more doesn't fit into the
/// instructions of a rule.
const MAX_OPERANDS: u32 = 4_096;

/// Parses an expression. An empty one is true for every frame.
pub(crate) fn parse(text: &str) -> Result<Node, Error> {
    if text.len() > MAX_LENGTH {
        let message = format!("an expression has at most {MAX_LENGTH} bytes; make several rules");
        return Err(Error::new(
            text,
            "",
            MAX_LENGTH..text.len(),
            message,
            vec![],
        ));
    }
    let mut parser = Parser {
        text,
        tokens: tokens(text),
        at: 0,
        depth: 0,
        operands: 0,
        build: Builder::new(),
    };
    parser.whole().map_err(|fault| {
        Error::new(
            text,
            "",
            fault.span,
            fault.refusal.message,
            fault.refusal.expected,
        )
    })
}

/// A refusal, and what it is about.
#[derive(Debug)]
struct Fault {
    span: Range<usize>,
    refusal: Refusal,
}

type Parsed<T> = Result<T, Fault>;

/// What can stand between `and` and `or`, or in parentheses.
#[derive(Debug)]
enum Part {
    /// With words of its own; what repeats after it, repeats these words.
    Term(Node, Option<Qualifiers>),
    /// By words that stand before.
    Id(Node),
    /// A number: an id, or the start of a comparison.
    Number(u32, Range<usize>),
    /// A computed number: the start of a comparison.
    Value(Value, Range<usize>),
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: u32,
    operands: u32,
    build: Builder,
}

impl Parser<'_> {
    fn peek(&self) -> &Kind {
        self.tokens
            .get(self.at)
            .map_or(&Kind::End, |token| &token.kind)
    }

    fn span(&self) -> Range<usize> {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(0..0, |token| token.span.clone())
    }

    /// From the start of a span to the end of the last token taken.
    fn since(&self, start: usize) -> Range<usize> {
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        start..last.map_or(start, |token| token.span.end.max(start))
    }

    fn take(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    fn takes(&mut self, kind: &Kind) -> bool {
        let found = self.peek() == kind;
        if found {
            self.take();
        }
        found
    }

    fn takes_word(&mut self, word: Word) -> bool {
        self.takes(&Kind::Word(word))
    }

    /// The next token can't stand where it does.
    fn unexpected<T>(&self, expected: &[&str]) -> Parsed<T> {
        let refusal = match self.peek() {
            Kind::Bad(why) => Refusal::new(why.clone()),
            Kind::Word(Word::LeftOut(what)) => Refusal::new(what.message()),
            Kind::Word(Word::Rnr) => {
                Refusal::new("the words of OpenBSD's packet filter are left out")
            }
            kind => {
                let message = match kind {
                    Kind::End => "the expression ends too early".to_owned(),
                    Kind::Name(name) => format!("{name} can't stand here"),
                    _ => "this can't stand here".to_owned(),
                };
                let expected = expected.iter().map(|&word| word.to_owned()).collect();
                Refusal { message, expected }
            }
        };
        Err(Fault {
            span: self.span(),
            refusal,
        })
    }

    fn expect(&mut self, punct: u8, shown: &str) -> Parsed<()> {
        if self.takes(&Kind::Punct(punct)) {
            Ok(())
        } else {
            self.unexpected(&[shown])
        }
    }

    /// Runs what nests, unless it nests too deeply.
    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            let message = format!("this is nested more than {MAX_DEPTH} deep");
            return Err(Fault {
                span: self.span(),
                refusal: Refusal::new(message),
            });
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn whole(&mut self) -> Parsed<Node> {
        if *self.peek() == Kind::End {
            return Ok(Node::Const(true));
        }
        let node = match self.sequence(None)? {
            Part::Term(node, _) => node,
            Part::Id(node) => node,
            Part::Number(_, span) => return Err(repeats_nothing(span)),
            Part::Value(_, span) => return self.no_comparison(span),
        };
        match self.peek() {
            Kind::End => Ok(node),
            Kind::Punct(b')') => {
                let refusal = Refusal::new("there is no ( for this )");
                Err(Fault {
                    span: self.span(),
                    refusal,
                })
            }
            _ => self.unexpected(&["and", "or"]),
        }
    }

    /// Operands with `and` and `or` between; a single one as it is.
    fn sequence(&mut self, inherited: Option<Qualifiers>) -> Parsed<Part> {
        let first = self.operand(inherited)?;
        if !matches!(self.peek(), Kind::Word(Word::And | Word::Or)) {
            return Ok(first);
        }
        let (mut node, mut words, ids_only) = match first {
            Part::Term(node, words) => (node, words, false),
            other => (self.id_of(other, inherited)?, inherited, true),
        };
        let mut nesting = 0;
        loop {
            let is_and = match self.peek() {
                Kind::Word(Word::And) => true,
                Kind::Word(Word::Or) => false,
                _ => break,
            };
            self.take();
            let start = self.span();
            let next = match self.operand(words)? {
                Part::Term(_, _) if ids_only => {
                    let refusal = Refusal::new(
                        "the parentheses started with a name or number that repeats the words \
                         before them, so only such can follow in them",
                    );
                    return Err(Fault {
                        span: self.since(start.start),
                        refusal,
                    });
                }
                Part::Term(next, its) => {
                    words = its;
                    next
                }
                other => self.id_of(other, words)?,
            };
            let changes = matches!((&node, is_and), (Node::And(_), false) | (Node::Or(_), true));
            nesting += u32::from(changes);
            if nesting > MAX_NESTING {
                let message = format!("and and or change more than {MAX_NESTING} times here");
                return Err(Fault {
                    span: start,
                    refusal: Refusal::new(message),
                });
            }
            node = if is_and {
                node.and(next)
            } else {
                node.or(next)
            };
        }
        Ok(if ids_only {
            Part::Id(node)
        } else {
            Part::Term(node, words)
        })
    }

    /// One operand with its `not`s.
    fn operand(&mut self, inherited: Option<Qualifiers>) -> Parsed<Part> {
        self.operands += 1;
        if self.operands > MAX_OPERANDS {
            let refusal = Refusal::new("the expression is too long for one rule; make several");
            return Err(Fault {
                span: self.span(),
                refusal,
            });
        }
        let mut nots = 0;
        while self.takes_word(Word::Not) {
            nots += 1;
        }
        let part = self.primary(inherited)?;
        if nots == 0 {
            return Ok(part);
        }
        let negate = |node: Node| if nots % 2 == 1 { node.negate() } else { node };
        Ok(match part {
            Part::Term(node, words) => Part::Term(negate(node), words),
            other => Part::Id(negate(self.id_of(other, inherited)?)),
        })
    }

    /// The node of what is no term.
    fn id_of(&mut self, part: Part, words: Option<Qualifiers>) -> Parsed<Node> {
        match part {
            Part::Id(node) | Part::Term(node, _) => Ok(node),
            Part::Number(value, span) => {
                let words = words.ok_or_else(|| repeats_nothing(span.clone()))?;
                self.refusing(span, |build| values::number(build, value, words))
            }
            Part::Value(_, span) => self.no_comparison(span),
        }
    }

    fn primary(&mut self, inherited: Option<Qualifiers>) -> Parsed<Part> {
        let start = self.span().start;
        let part = match self.peek() {
            Kind::Punct(b'(') => self.parentheses(inherited)?,
            Kind::Number(value) => {
                let value = *value;
                self.take();
                Part::Number(value, self.since(start))
            }
            Kind::Op(crate::lex::Op::Sub) | Kind::Word(Word::Len) => {
                let value = self.unary()?;
                Part::Value(value, self.since(start))
            }
            Kind::Dotted | Kind::Ipv6(_) | Kind::Mac(_) | Kind::Name(_) => match inherited {
                Some(words) => Part::Id(self.id(words)?),
                None => return self.without_words(),
            },
            _ => self.term()?,
        };
        self.comparison(part, start)
    }

    fn parentheses(&mut self, inherited: Option<Qualifiers>) -> Parsed<Part> {
        let open = self.span();
        self.take();
        let part = self.nested(|parser| parser.sequence(inherited))?;
        if *self.peek() == Kind::End {
            let refusal = Refusal::new("this ( is never closed");
            return Err(Fault {
                span: open,
                refusal,
            });
        }
        if !self.takes(&Kind::Punct(b')')) {
            return self.unexpected(&["and", "or", ")"]);
        }
        let span = self.since(open.start);
        Ok(match part {
            // Words inside don't reach out: what follows repeats those before.
            Part::Term(node, _) => Part::Term(node, inherited),
            Part::Number(value, _) => Part::Number(value, span),
            Part::Value(value, _) => Part::Value(value, span),
            id @ Part::Id(_) => id,
        })
    }

    /// Whether a number is the start of a comparison, which is then a term.
    fn comparison(&mut self, part: Part, start: usize) -> Parsed<Part> {
        let (value, number) = match part {
            Part::Value(value, _) => (value, None),
            Part::Number(number, ref span) if self.at_operator() => {
                (Value::number(number), Some((number, span.clone())))
            }
            other => return Ok(other),
        };
        let computes = matches!(self.peek(), Kind::Op(_));
        let left = self.arithmetic_after(value, 0)?;
        let Kind::Compare(compare) = *self.peek() else {
            return Ok(match number {
                Some((number, span)) if !computes => Part::Number(number, span),
                _ => Part::Value(left, self.since(start)),
            });
        };
        self.take();
        let right = self.arithmetic(0)?;
        Ok(Part::Term(
            crate::build::relation(left, compare, right),
            None,
        ))
    }

    fn at_operator(&self) -> bool {
        matches!(self.peek(), Kind::Op(_) | Kind::Compare(_))
    }

    fn no_comparison<T>(&self, span: Range<usize>) -> Parsed<T> {
        if matches!(self.peek(), Kind::Bad(_) | Kind::Word(Word::LeftOut(_))) {
            return self.unexpected(&[]);
        }
        let refusal = Refusal {
            message: "this is a number, and compared with nothing".to_owned(),
            expected: ["=", "!=", "<", "<=", ">", ">="].map(Into::into).to_vec(),
        };
        Err(Fault { span, refusal })
    }

    /// What the generator says, with its place.
    fn refusing<T>(
        &mut self,
        span: Range<usize>,
        run: impl FnOnce(&mut Builder) -> Result<T, Refusal>,
    ) -> Parsed<T> {
        run(&mut self.build).map_err(|refusal| Fault { span, refusal })
    }
}

fn repeats_nothing(span: Range<usize>) -> Fault {
    let refusal = Refusal {
        message: "it isn't said what this number is".to_owned(),
        expected: ["host", "net", "port", "portrange", "proto"]
            .map(Into::into)
            .to_vec(),
    };
    Fault { span, refusal }
}
