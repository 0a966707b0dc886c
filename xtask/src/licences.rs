//! The policy of `deny.toml` (licences, sources, wildcards), checked on every
//! package the workspace resolves to.
//!
//! `cargo deny check licenses bans sources` reads the same file and says more;
//! it takes longer to build than everything else here, so the test run does
//! with its core: cargo's own metadata, and the SPDX expressions evaluated by
//! the library cargo-deny is built on.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use spdx::{Expression, Licensee};

/// What `deny.toml` allows.
struct Policy {
    licences: Vec<Licensee>,
}

impl Policy {
    fn read(path: &Path) -> Result<Policy> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Policy> {
        let file: toml::Table = text.parse()?;
        let at = |table: &str, key: &str| file.get(table).and_then(|t| t.get(key));
        for (table, key) in [
            ("sources", "unknown-registry"),
            ("sources", "unknown-git"),
            ("bans", "wildcards"),
        ] {
            let value = at(table, key).and_then(toml::Value::as_str);
            ensure!(
                value == Some("deny"),
                "{table}.{key} is {value:?}, not \"deny\""
            );
        }
        let allowed = at("licenses", "allow").and_then(toml::Value::as_array);
        let licences = allowed
            .context("licenses.allow is missing")?
            .iter()
            .map(|name| {
                let name = name.as_str().context("licenses.allow: not a string")?;
                Licensee::parse(name).map_err(|e| anyhow::anyhow!("licenses.allow: {e}"))
            })
            .collect::<Result<_>>()?;
        Ok(Policy { licences })
    }

    /// What is wrong with a package, if anything is.
    fn objection(&self, package: &Package) -> Option<String> {
        self.licence(package).or_else(|| source(package))
    }

    fn licence(&self, package: &Package) -> Option<String> {
        let Some(text) = &package.license else {
            return Some("states no licence".to_owned());
        };
        // "MIT/Apache-2.0" is how "or" was written before SPDX.
        let expression = match Expression::parse_mode(text, spdx::ParseMode::LAX) {
            Ok(expression) => expression,
            Err(e) => return Some(format!("its licence `{text}` can't be read: {}", e.reason)),
        };
        let fine = expression.evaluate(|wanted| {
            self.licences
                .iter()
                .any(|allowed| allowed.satisfies(wanted))
        });
        (!fine).then(|| format!("its licence `{text}` is not allowed"))
    }
}

fn source(package: &Package) -> Option<String> {
    match &package.source {
        Some(source) if !source.is_crates_io() => Some(format!("comes from {source}")),
        // A path: one of the workspace's own.
        None => package.dependencies.iter().find_map(|dependency| {
            let wild = dependency.req.comparators.is_empty() && dependency.path.is_none();
            wild.then(|| format!("takes any version of {}", dependency.name))
        }),
        Some(_) => None,
    }
}

/// Checks every package of the lock file.
///
/// # Errors
/// Every objection there is, each with its package.
pub fn check(root: &Path) -> Result<()> {
    let policy = Policy::read(&root.join("deny.toml"))?;
    let metadata: Metadata = MetadataCommand::new()
        .current_dir(root)
        .other_options(["--locked".to_owned(), "--all-features".to_owned()])
        .exec()?;
    let objections: BTreeSet<String> = metadata
        .packages
        .iter()
        .filter_map(|p| {
            Some(format!(
                "{} {}: {}",
                p.name,
                p.version,
                policy.objection(p)?
            ))
        })
        .collect();
    if objections.is_empty() {
        println!("{} packages", metadata.packages.len());
        return Ok(());
    }
    let list: Vec<String> = objections.into_iter().collect();
    bail!("against deny.toml:\n  {}", list.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT", "Unicode-3.0"]
        [bans]
        wildcards = "deny"
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
    "#;

    fn package(change: impl FnOnce(&mut serde_json::Value)) -> Package {
        let mut value = serde_json::json!({
            "name": "p", "version": "1.0.0", "id": "p", "license": "MIT",
            "source": "registry+https://github.com/rust-lang/crates.io-index",
            "dependencies": [], "targets": [], "features": {}, "manifest_path": "/p/Cargo.toml",
        });
        change(&mut value);
        serde_json::from_value(value).expect("a package")
    }

    fn objection(change: impl FnOnce(&mut serde_json::Value)) -> Option<String> {
        Policy::parse(POLICY)
            .expect("a policy")
            .objection(&package(change))
    }

    #[test]
    fn licences_are_read_as_expressions() {
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "Apache-2.0/MIT",
            "MIT AND Unicode-3.0",
        ] {
            assert_eq!(objection(|p| p["license"] = good.into()), None, "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "MIT AND", "Mine"] {
            assert!(objection(|p| p["license"] = bad.into()).is_some(), "{bad}");
        }
        assert!(objection(|p| p["license"] = serde_json::Value::Null).is_some());
    }

    #[test]
    fn sources_and_wildcards_are_seen() {
        let git = "git+https://example.org/p#0123456789";
        assert!(objection(|p| p["source"] = git.into()).is_some());
        let dependency = |req: &str| {
            serde_json::json!([{
                "name": "d", "req": req, "kind": null, "optional": false,
                "uses_default_features": true, "features": [], "target": null,
            }])
        };
        let own = |req: &'static str| {
            objection(|p| {
                p["source"] = serde_json::Value::Null;
                p["dependencies"] = dependency(req);
            })
        };
        assert!(own("*").is_some());
        assert_eq!(own("^1"), None);
    }

    #[test]
    fn a_policy_that_allows_more_is_no_policy() {
        let lax = POLICY.replace("unknown-git = \"deny\"", "unknown-git = \"allow\"");
        assert!(Policy::parse(&lax).is_err());
    }
}
