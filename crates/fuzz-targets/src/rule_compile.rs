use weir_engine::rule::{Action, Program};
use weir_rules::{RuleFile, compile_expression, explain};

use crate::rules::load;

/// The text of a rule file, and of an expression.
pub fn rule_compile(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match compile_expression(text) {
        Ok(expression) => {
            // What it is called is what it means.
            let again = compile_expression(expression.text()).expect("it was compiled before");
            assert_eq!(again, expression);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(text.get(error.span.clone()).is_some(), "{:?}", error.span);
        }
    }
    match RuleFile::parse(text, "rules") {
        Ok(file) => check(&file),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

/// What is compiled is believed by nobody, and right all the same.
fn check(file: &RuleFile) {
    let bytes = file.compile();
    let program = match Program::verify(&bytes) {
        Ok(program) => program,
        Err(error) => panic!("the engine refuses what the compiler made: {error:?}"),
    };
    assert_eq!(program.rule_count() as usize, file.rules().len());
    for (rule, made) in program.rules().zip(file.rules()) {
        assert_eq!(rule.name(), made.name);
        assert_eq!(rule.line(), made.line);
        assert_eq!(
            rule.action(),
            Action::from_format(made.action as u32).expect("an action")
        );
        let expression = compile_expression(rule.expression()).expect("it was compiled before");
        let code: Vec<_> = rule.code().iter().map(|insn| insn.get()).collect();
        assert_eq!(expression.code(), code);
    }
    load(&bytes);
    let explanation = explain(&bytes).expect("a program can be explained");
    assert_eq!(explanation.rules.len(), file.rules().len());
    assert!(!explanation.to_string().is_empty());
}
