//! A reader of INF files, as much of the format as checking one takes:
//! sections, `name = value, value`, quotes, `;` comments, `%strings%`, line
//! continuation. Source: "General Syntax Rules for INF Files".

use std::collections::HashMap;

/// One line of a section: the name before `=`, if any, and the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What stands before the equals sign; empty for a bare list of values.
    pub name: String,
    /// The comma-separated values, unquoted, strings put in.
    pub values: Vec<String>,
}

/// A parsed INF. Section and entry names are compared without regard to case.
#[derive(Debug, Default)]
pub struct Inf {
    sections: HashMap<String, Vec<Entry>>,
}

impl Inf {
    /// Parses the text of an INF or INX file.
    ///
    /// # Errors
    /// The line and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut raw: Vec<(String, Vec<(usize, String)>)> = Vec::new();
        let mut pending = String::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = strip_comment(line).trim().to_owned();
            let joined = format!("{pending}{line}");
            if let Some(part) = joined.strip_suffix('\\') {
                pending = part.to_owned();
                continue;
            }
            pending.clear();
            if joined.is_empty() {
                continue;
            }
            if let Some(name) = joined.strip_prefix('[') {
                let name = name
                    .strip_suffix(']')
                    .ok_or_else(|| format!("line {number}: a section's name does not end"))?;
                raw.push((name.to_lowercase(), Vec::new()));
                continue;
            }
            raw.last_mut()
                .ok_or_else(|| format!("line {number}: an entry before the first section"))?
                .1
                .push((number, joined));
        }
        let mut inf = Self::default();
        let strings = strings(&raw)?;
        for (section, lines) in &raw {
            // A section that stands twice is one section.
            let entries = inf.sections.entry(section.clone()).or_default();
            for (number, line) in lines {
                let (name, values) = split_entry(line);
                let put = |text: &str| substitute(text, &strings, *number);
                entries.push(Entry {
                    name: put(&name)?,
                    values: values.iter().map(|v| put(v)).collect::<Result<_, _>>()?,
                });
            }
        }
        Ok(inf)
    }

    /// The entries of a section, if there is such a section.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&[Entry]> {
        self.sections.get(&name.to_lowercase()).map(Vec::as_slice)
    }

    /// The values of the first entry of this name in a section.
    #[must_use]
    pub fn values(&self, section: &str, name: &str) -> Option<&[String]> {
        self.section(section)?
            .iter()
            .find(|e| e.name.eq_ignore_ascii_case(name))
            .map(|e| e.values.as_slice())
    }

    /// The first value of an entry.
    #[must_use]
    pub fn value(&self, section: &str, name: &str) -> Option<&str> {
        self.values(section, name)?.first().map(String::as_str)
    }

    /// What an AddReg section writes: `(subkey, value name) -> (flags, data)`.
    #[must_use]
    pub fn registry(&self, section: &str) -> HashMap<(String, String), (u32, Vec<String>)> {
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).unwrap_or(u32::MAX),
            None => text.parse().unwrap_or(u32::MAX),
        };
        self.section(section)
            .unwrap_or_default()
            .iter()
            .filter_map(|e| match e.values.as_slice() {
                [root, key, name, flags, data @ ..] if root.eq_ignore_ascii_case("HKR") => {
                    Some(((key.clone(), name.clone()), (number(flags), data.to_vec())))
                }
                _ => None,
            })
            .collect()
    }
}

fn strip_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ';' if !quoted => return line.get(..at).unwrap_or(line),
            _ => {}
        }
    }
    line
}

fn split_entry(line: &str) -> (String, Vec<String>) {
    let mut quoted = false;
    let mut name = None;
    let mut parts = vec![String::new()];
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            '=' if !quoted && name.is_none() && parts.len() == 1 => {
                name = parts.pop().map(|n| n.trim().to_owned());
                parts.push(String::new());
            }
            ',' if !quoted => parts.push(String::new()),
            _ => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    let values = parts.iter().map(|p| p.trim().to_owned()).collect();
    (name.unwrap_or_default(), values)
}

fn strings(raw: &[(String, Vec<(usize, String)>)]) -> Result<HashMap<String, String>, String> {
    let mut strings = HashMap::new();
    for (number, line) in raw
        .iter()
        .filter(|(s, _)| s == "strings")
        .flat_map(|(_, l)| l)
    {
        let (name, values) = split_entry(line);
        if strings
            .insert(name.to_lowercase(), values.join(","))
            .is_some()
        {
            return Err(format!("line {number}: the string {name} stands twice"));
        }
    }
    Ok(strings)
}

/// Puts strings in for `%name%`. A number between the signs is a folder's DIRID
/// and stays as it is, as `%12%` does.
fn substitute(
    text: &str,
    strings: &HashMap<String, String>,
    number: usize,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let (name, tail) = after
            .split_once('%')
            .ok_or_else(|| format!("line {number}: a % without its partner"))?;
        out.push_str(before);
        if name.chars().all(|c| c.is_ascii_digit()) && !name.is_empty() {
            out.push_str(&format!("%{name}%"));
        } else {
            let value = strings
                .get(&name.to_lowercase())
                .ok_or_else(|| format!("line {number}: the string {name} is not defined"))?;
            out.push_str(value);
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}
