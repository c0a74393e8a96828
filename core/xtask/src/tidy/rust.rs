//! Reads from a Rust file what tidy's rules need: functions with their lengths, and the paths in code.
//!
//! Not a Rust parser. [`Source::read`] blanks comments, strings and character literals, splits the rest into words and
//! symbols, and keeps a stack of braces. It skips code under `#[cfg(test)]` and test functions: a test may use
//! everything. It also skips what it does not understand, so it may miss a use and never invents one.

/// A word or a symbol with its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// From 1.
    pub(super) line: usize,
    /// From its `fn` to its last brace.
    pub(super) lines: usize,
}

/// A name that a `use` brings into a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// `*` for a glob.
    pub(super) name: String,
    pub(super) path: Vec<String>,
    /// A re-export (`pub use`).
    pub(super) public: bool,
    pub(super) line: usize,
}

/// What tidy reads from a file.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) functions: Vec<Function>,
    pub(super) imports: Vec<Import>,
    /// Paths of two segments and more outside `use`, with their lines.
    pub(super) paths: Vec<(Vec<String>, usize)>,
    /// Modules that this file declares and that have a file of their own.
    pub(super) children: Vec<String>,
    /// Those of them that exist in tests only.
    pub(super) test_children: Vec<String>,
    /// Items that this file defines at its top level.
    pub(super) items: Vec<String>,
}

/// The owner of an open brace.
enum Brace {
    Module,
    Function { at: usize },
    Other,
}

impl Source {
    pub(super) fn read(text: &str) -> Source {
        let blanked = blanked(text);
        let tokens = tokens(&blanked);
        let mut source = Source::default();
        let mut braces: Vec<Brace> = Vec::new();
        // Set between `fn name` or `mod name` and the opening brace of its body.
        let mut opens: Option<Brace> = None;
        let mut parens = 0usize;
        let mut index = 0;
        while index < tokens.len() {
            let token = tokens[index];
            let next = tokens.get(index + 1).map_or("", |next| next.text);
            match token.text {
                "#" if next == "[" => {
                    index = source.attribute(&tokens, index);
                    continue;
                }
                "use" if word(next) || next == "{" || next == "::" => {
                    let depth = inline_depth(&braces);
                    index = source.import(&tokens, index, depth);
                    continue;
                }
                "mod" if word(next) => {
                    if tokens.get(index + 2).is_some_and(|after| after.text == ";") {
                        source.children.push(next.to_owned());
                    } else {
                        opens = Some(Brace::Module);
                    }
                    index += 1;
                }
                "fn" if word(next) => {
                    if top(&braces) {
                        source.items.push(next.to_owned());
                    }
                    let function = Function { name: next.to_owned(), line: token.line, lines: 0 };
                    source.functions.push(function);
                    opens = Some(Brace::Function { at: source.functions.len() - 1 });
                    parens = 0;
                    index += 1;
                }
                "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" if word(next) => {
                    // `const fn` is a function, `static mut` a static.
                    let name =
                        if next == "mut" { tokens.get(index + 2).map_or("", |t| t.text) } else { next };
                    if next != "fn" && top(&braces) {
                        source.items.push(name.to_owned());
                    }
                }
                "(" | "[" => parens += 1,
                ")" | "]" => parens = parens.saturating_sub(1),
                // A declaration without a body, in a trait or an extern block.
                ";" if parens == 0 => {
                    if let Some(Brace::Function { at }) = opens.take() {
                        source.functions.remove(at);
                    }
                }
                "{" => braces.push(opens.take().unwrap_or(Brace::Other)),
                "}" => {
                    if let Some(Brace::Function { at }) = braces.pop() {
                        let function = &mut source.functions[at];
                        function.lines = token.line - function.line + 1;
                    }
                }
                _ if word(token.text) => {
                    index = source.path(&tokens, index, inline_depth(&braces));
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
        source
    }

    /// Skips an attribute, and the item below it when the item is for tests.
    fn attribute(&mut self, tokens: &[Token<'_>], at: usize) -> usize {
        let end = closing(tokens, at + 1);
        let words: Vec<&str> = tokens[at + 2..end].iter().map(|token| token.text).collect();
        let name = words.iter().position(|word| *word == "(").map_or(words.as_slice(), |open| &words[..open]);
        let tests = matches!(words[..], ["cfg", "(", "test", ..] | ["cfg", "(", "all", "(", "test", ..])
            || name.last() == Some(&"test");
        if !tests {
            return end + 1;
        }
        // Attributes may follow one another.
        let mut index = end + 1;
        while tokens.get(index).is_some_and(|token| token.text == "#") {
            index = closing(tokens, index + 1) + 1;
        }
        while let Some(token) = tokens.get(index) {
            match token.text {
                "mod" if tokens.get(index + 2).is_some_and(|after| after.text == ";") => {
                    self.test_children.push(tokens[index + 1].text.to_owned());
                    return index + 3;
                }
                "(" | "[" => index = closing(tokens, index),
                "{" => return closing(tokens, index) + 1,
                ";" | "," => return index + 1,
                "}" => return index,
                _ => {}
            }
            index += 1;
        }
        index
    }

    /// Reads one `use` declaration; `depth` is the number of inline modules around it.
    fn import(&mut self, tokens: &[Token<'_>], at: usize, depth: usize) -> usize {
        let public = at > 0 && matches!(tokens[at - 1].text, "pub" | ")");
        let end = (at..tokens.len()).find(|&index| tokens[index].text == ";").unwrap_or(tokens.len());
        let line = tokens[at].line;
        let mut leaves = Vec::new();
        tree(&tokens[at + 1..end], &mut Vec::new(), &mut leaves);
        for (path, name) in leaves {
            // An import of an inline module is no name of the file around it.
            match (outside(&path, depth), depth) {
                (Some(path), 0) => self.imports.push(Import { name, path, public, line }),
                (Some(path), _) => self.paths.push((path, line)),
                (None, _) => {}
            }
        }
        end + 1
    }

    /// Reads a path in code. A single word is not a path.
    fn path(&mut self, tokens: &[Token<'_>], at: usize, depth: usize) -> usize {
        let mut path = vec![tokens[at].text.to_owned()];
        let mut index = at + 1;
        while index + 1 < tokens.len() && tokens[index].text == "::" && word(tokens[index + 1].text) {
            path.push(tokens[index + 1].text.to_owned());
            index += 2;
        }
        // `<T as Trait>::name` and the field of a value begin no path.
        let begins = at == 0 || !matches!(tokens[at - 1].text, "::" | ".");
        if path.len() > 1
            && begins
            && let Some(path) = outside(&path, depth)
        {
            self.paths.push((path, tokens[at].line));
        }
        index
    }
}

/// Rewrites a path from an inline module as seen from the file's own module; `None` when it stays inside.
fn outside(path: &[String], depth: usize) -> Option<Vec<String>> {
    if depth == 0 || path.first().is_none_or(|first| first == "crate") {
        return Some(path.to_vec());
    }
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    match supers.checked_sub(depth)? {
        0 => Some(std::iter::once("self".to_owned()).chain(path[supers..].iter().cloned()).collect()),
        _ => Some(path[depth..].to_vec()),
    }
}

/// Every leaf of a use tree, with the name that it imports.
fn tree(tokens: &[Token<'_>], before: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, String)>) {
    let kept = before.len();
    let mut alias = None;
    let mut index = 0;
    while index < tokens.len() {
        match tokens[index].text {
            "{" => {
                let end = closing(tokens, index);
                for part in parts(&tokens[index + 1..end]) {
                    tree(part, before, leaves);
                }
                before.truncate(kept);
                return;
            }
            "as" => {
                alias = tokens.get(index + 1).map(|token| token.text.to_owned());
                break;
            }
            "::" => {}
            text => before.push(text.to_owned()),
        }
        index += 1;
    }
    let mut path = before.clone();
    before.truncate(kept);
    // `a::{self}` imports `a`.
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    if let Some(last) = path.last().cloned() {
        leaves.push((path, alias.unwrap_or(last)));
    }
}

/// The parts of a list between top-level commas.
fn parts<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<&'t [Token<'a>]> {
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                parts.push(&tokens[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[start..]);
    parts
}

/// Index of the bracket that closes the one at `at`; the last token when none does.
fn closing(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

fn inline_depth(braces: &[Brace]) -> usize {
    braces.iter().filter(|brace| matches!(brace, Brace::Module)).count()
}

fn top(braces: &[Brace]) -> bool {
    braces.is_empty()
}

fn word(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut letters = text.char_indices().peekable();
    while let Some((start, letter)) = letters.next() {
        if letter == '\n' {
            line += 1;
        }
        if letter.is_whitespace() {
            continue;
        }
        let mut end = start + letter.len_utf8();
        if letter.is_alphanumeric() || letter == '_' {
            while let Some(&(at, next)) = letters.peek() {
                if !next.is_alphanumeric() && next != '_' {
                    break;
                }
                end = at + next.len_utf8();
                letters.next();
            }
        } else if letter == ':' && text[end..].starts_with(':') {
            letters.next();
            end += 1;
        }
        tokens.push(Token { text: &text[start..end], line });
    }
    tokens
}

/// Replaces comments, strings and character literals by spaces. Line breaks stay.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at + 1),
            b'r' if !part_of_a_word(bytes, at) => raw_end(bytes, at).unwrap_or(at),
            b'\'' => character_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Only whole literals and comments are blanked, so the rest is valid text.
    String::from_utf8_lossy(&out).into_owned()
}

fn part_of_a_word(bytes: &[u8], at: usize) -> bool {
    // `br"..."` is a raw string too.
    let before = at.checked_sub(1).map(|before| bytes[before]);
    before.is_some_and(|byte| (byte.is_ascii_alphanumeric() || byte == b'_') && byte != b'b')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut index) = (0usize, at);
    while index < bytes.len() {
        if bytes[index..].starts_with(b"/*") {
            depth += 1;
            index += 2;
        } else if bytes[index..].starts_with(b"*/") {
            depth -= 1;
            index += 2;
            if depth == 0 {
                return index;
            }
        } else {
            index += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut index = from;
    while index < bytes.len() {
        match bytes[index] {
            b'\\' => index += 2,
            b'"' => return index + 1,
            _ => index += 1,
        }
    }
    bytes.len()
}

/// End of a raw string that begins with `r"` or `r#...#"`.
fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let start = at + 1 + hashes;
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let found = bytes[start + 1..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(bytes.len(), |length| start + 1 + length + end.len()))
}

/// End of a character literal; `None` for a lifetime.
fn character_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        let end = bytes[at + 3..].iter().position(|&byte| byte == b'\'')?;
        return Some(at + 3 + end + 1);
    }
    let letter = std::str::from_utf8(&bytes[at + 1..(at + 5).min(bytes.len())])
        .unwrap_or_else(|error| {
            std::str::from_utf8(&bytes[at + 1..at + 1 + error.valid_up_to()]).unwrap_or_default()
        })
        .chars()
        .next()?;
    let end = at + 1 + letter.len_utf8();
    (bytes.get(end) == Some(&b'\'')).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str) -> Vec<String> {
        path.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn functions_are_measured_from_their_first_to_their_last_line() {
        let text = "trait T { fn none(&self) -> [u8; 2]; }\nfn one() { \"}\" ; '}' ; r#\"}\"# }\nfn three<'a>(\n    x: &'a str) {\n}\n#[test]\nfn test() {\n}\n#[cfg(test)]\nmod tests {\n fn helper() {}\n}\n";
        let found = Source::read(text).functions;
        let lines: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(lines, [("one", 2, 1), ("three", 3, 3)]);
    }

    #[test]
    fn a_use_tree_is_read_leaf_by_leaf() {
        let text = "use crate::a::{self, b::{C as D, e}, *};\npub(crate) use super::f::G;\nuse std::fmt;\n";
        let imports = Source::read(text).imports;
        let read: Vec<_> = imports
            .iter()
            .map(|import| (import.name.as_str(), import.path.join("::"), import.public))
            .collect();
        let expected = [
            ("a", "crate::a", false),
            ("D", "crate::a::b::C", false),
            ("e", "crate::a::b::e", false),
            ("*", "crate::a::*", false),
            ("G", "super::f::G", true),
            ("fmt", "std::fmt", false),
        ];
        assert_eq!(read, expected.map(|(name, path, public)| (name, path.to_owned(), public)));
    }

    #[test]
    fn paths_in_code_are_found_and_those_in_texts_and_tests_are_not() {
        let text = "fn f() { crate::a::b(); // crate::no::no\n let s = \"crate::no::no\"; value.x::<u8>(); }\n\
                    mod inner { use super::c::D; fn g() { super::super::e::f(); inner::own(); } }\n\
                    #[cfg(test)]\nmod tests { use crate::no::No; }\n";
        let paths: Vec<_> = Source::read(text).paths.into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [words("crate::a::b"), words("self::c::D"), words("super::e::f")]);
    }

    #[test]
    fn children_and_items_are_those_of_the_file() {
        let text = "mod a;\n#[cfg(test)]\nmod b;\npub struct S;\nconst fn c() { const NOT: u8 = 1; }\npub(crate) static mut X: u8 = 0;\n";
        let source = Source::read(text);
        assert_eq!((source.children, source.test_children), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!(source.items, ["S", "c", "X"]);
    }
}
