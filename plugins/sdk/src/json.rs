//! Lenient reading of providers' JSON, and a small writer.
//!
//! Providers answer the same field as a number, a string, with Persian digits, or leave it out; one entry comes
//! as an object where many come as an array. [`Node`] takes what comes and never fails after the parse: what is
//! not there is [`Node::Null`], so that a mapping states its rule once. Strings without escapes are borrowed
//! from the body. Numbers keep the characters in which they came: ids beyond 2^53 and 2^64 stay exact, and
//! `100.9` is not mistaken for the code 100.
//!
//! One tree instead of derived structs, because every derived struct is another copy of the parser in the
//! component (measured: 300 KB against 198 KB for the Kavenegar plugin).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::number;

/// Levels of arrays and objects in one document. Providers' answers have three. A level takes 352 bytes of the
/// component's 32 KiB stack (read from the built Kavenegar component), so that `serde_json`'s own limit of 128
/// levels would overflow it.
pub const DEPTH_MAX: usize = 16;

/// A JSON value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Node<'a> {
    /// Null, or nothing at all.
    #[default]
    Null,
    /// A string, number or boolean as text.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Node<'a>>),
    /// An object, its keys in the order they came.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// How `serde_json` hands over a number beyond 64 bits or with a fraction: as a map with this key alone, whose value is
/// the number in its own characters. An object that begins with this key is read as the key's value.
const NUMBER: &str = "$serde_json::private::Number";

static NULL: Node<'static> = Node::Null;

impl<'a> Node<'a> {
    /// Reads one document.
    ///
    /// # Errors
    /// When it is not JSON or nested deeper than [`DEPTH_MAX`]; the error tells the place, never the content.
    pub fn parse(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let node = Level(DEPTH_MAX).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(node)
    }

    /// The value of a key (the first, when there are two); `Null` when there is none or this is no object.
    pub fn get(&self, key: &str) -> &Node<'a> {
        self.entries().iter().find_map(|(name, node)| (name == key).then_some(node)).unwrap_or(&NULL)
    }

    /// [`Self::get`] without regard to the case of ASCII letters, for providers whose spelling is not certain.
    pub fn get_any_case(&self, key: &str) -> &Node<'a> {
        let mut entries = self.entries().iter();
        entries.find_map(|(name, node)| name.eq_ignore_ascii_case(key).then_some(node)).unwrap_or(&NULL)
    }

    /// Takes the value of a key out of an object, as [`Self::get`] finds it.
    pub fn take(&mut self, key: &str) -> Node<'a> {
        let Node::Object(entries) = self else { return Node::Null };
        let found = entries.iter_mut().find(|(name, _)| name == key);
        found.map(|(_, node)| std::mem::take(node)).unwrap_or_default()
    }

    /// The keys and values of an object; empty for anything else.
    pub fn entries(&self) -> &[(Cow<'a, str>, Node<'a>)] {
        if let Node::Object(entries) = self { entries } else { &[] }
    }

    /// The items of an array; an object counts as an array of one, anything else as empty.
    pub fn items(&self) -> &[Node<'a>] {
        match self {
            Node::List(items) => items,
            Node::Object(_) => std::slice::from_ref(self),
            Node::Null | Node::Text(_) => &[],
        }
    }

    /// A string, number or boolean as text without outer white space; empty for anything else.
    pub fn text(&self) -> &str {
        if let Node::Text(text) = self { text.trim() } else { "" }
    }

    /// The whole number in a number or string, in Latin, Persian or Arabic digits. `None` when it is not a number, has
    /// a fraction other than zeros, or exceeds 64 bits.
    pub fn integer(&self) -> Option<i64> {
        self.number(|fraction| fraction.bytes().all(|byte| byte == b'0'))
    }

    /// [`Self::integer`] with any fraction cut off (`"1200.50"` is 1200): for a credit, which is an estimate. Codes,
    /// ids and amounts are read by [`Self::integer`].
    pub fn whole_part(&self) -> Option<i64> {
        self.number(|fraction| fraction.bytes().all(|byte| byte.is_ascii_digit()))
    }

    fn number(&self, fits: impl Fn(&str) -> bool) -> Option<i64> {
        let folded = number::fold_digits(self.text());
        match folded.split_once('.') {
            Some((whole, fraction)) => whole.parse().ok().filter(|_| fits(fraction)),
            None => folded.parse().ok(),
        }
    }
}

/// Reads a value that may still have this many levels.
struct Level(usize);

impl Level {
    fn below<E: Error>(&self) -> Result<usize, E> {
        self.0.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Node<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(if value { "true" } else { "false" })))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(value.to_string())))
    }

    /// Never: numbers with a fraction come as a map (see [`NUMBER`]). Without this, serde's own refusal of a float
    /// brings 17 KB of tables for printing one into every component, and the host copies them for each call.
    fn visit_f64<E: Error>(self, _: f64) -> Result<Node<'de>, E> {
        Err(E::custom("a number without its characters"))
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node<'de>, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Level(below))? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node<'de>, A::Error> {
        let mut object = Vec::new();
        // A key is read as a value too, which in JSON can only be a string.
        while let Some(key) = entries.next_key_seed(Level(0))? {
            if object.is_empty() && key.text() == NUMBER {
                return entries.next_value_seed(Level(0));
            }
            let value = entries.next_value_seed(Level(self.below()?))?;
            object.push((if let Node::Text(key) = key { key } else { Cow::Borrowed("") }, value));
        }
        Ok(Node::Object(object))
    }
}

/// A JSON object that is being written.
#[derive(Debug, Clone, Default)]
pub struct Object(String);

impl Object {
    /// An object without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a string.
    pub fn text(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        push_string(&mut self.0, value);
        self
    }

    /// Adds a whole number.
    pub fn number(mut self, key: &str, value: u64) -> Self {
        self.key(key);
        self.0.push_str(&value.to_string());
        self
    }

    /// Adds `true` or `false`.
    pub fn boolean(mut self, key: &str, value: bool) -> Self {
        self.key(key);
        self.0.push_str(if value { "true" } else { "false" });
        self
    }

    /// Adds an object.
    pub fn object(mut self, key: &str, value: Object) -> Self {
        self.key(key);
        self.0.push_str(if value.0.is_empty() { "{" } else { &value.0 });
        self.0.push('}');
        self
    }

    /// Adds an array of strings.
    pub fn texts<'s>(mut self, key: &str, values: impl IntoIterator<Item = &'s str>) -> Self {
        self.list(key, values, push_string);
        self
    }

    /// Adds an array of whole numbers that are held as text.
    pub fn numbers<'s>(mut self, key: &str, values: impl IntoIterator<Item = &'s str>) -> Self {
        let whole = |value: &&str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        self.list(key, values.into_iter().filter(whole), |out, value| out.push_str(value));
        self
    }

    /// The finished object.
    pub fn finish(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0.into_bytes()
    }

    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        push_string(&mut self.0, key);
        self.0.push(':');
    }

    fn list<'s>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = &'s str>,
        push: fn(&mut String, &str),
    ) {
        self.key(key);
        self.0.push('[');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            push(&mut self.0, value);
        }
        self.0.push(']');
    }
}

fn push_string(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\u{1f}' => {
                let code = c as usize;
                out.push_str("\\u00");
                out.extend([char::from(HEX[code >> 4]), char::from(HEX[code & 15])]);
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: &str) -> Node<'_> {
        Node::parse(json.as_bytes()).expect(json)
    }

    #[test]
    fn text_takes_what_comes_and_keeps_large_ids_exact() {
        for (json, text) in [
            ("5461268677656004204", "5461268677656004204"),
            ("18446744073709551615", "18446744073709551615"),
            ("\" 12 \"", "12"),
            ("\"a\\u0041\\n\"", "aA"),
            ("-7", "-7"),
            ("1200.9", "1200.9"),
            ("1e30", "1e+30"),
            ("18446744073709551617", "18446744073709551617"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("[{\"$serde_json::private::Number\":\"x\"}]", ""),
            ("true", "true"),
            ("null", ""),
            ("[1,{\"a\":2}]", ""),
            ("{\"a\":[1]}", ""),
        ] {
            assert_eq!(node(json).text(), text, "{json}");
        }
    }

    #[test]
    fn integers_are_read_from_three_scripts() {
        for (json, integer) in [
            ("\"۲۰۰\"", Some(200)),
            ("\"٤١٨\"", Some(418)),
            ("1200.0", Some(1200)),
            ("\"1200.00\"", Some(1200)),
            ("100.9", None),
            ("\"5000.9\"", None),
            ("1e3", None),
            ("\"-3\"", Some(-3)),
            ("\"1.x\"", None),
            ("\"\"", None),
            ("null", None),
            ("\"9223372036854775808\"", None),
        ] {
            assert_eq!(node(json).integer(), integer, "{json}");
        }
        for (json, whole) in
            [("1200.5", Some(1200)), ("\"۱۲۰۰.۹۹\"", Some(1200)), ("\"1.x\"", None), ("-3.7", Some(-3))]
        {
            assert_eq!(node(json).whole_part(), whole, "{json}");
        }
    }

    #[test]
    fn what_is_not_there_is_null_all_the_way_down() {
        let json = r#"{"a":{"b":1},"a":2,"c":[{"d":"x"}]}"#;
        assert_eq!(node(json).get("a").get("b").text(), "1");
        assert_eq!(node(json).get("c").get("d"), &Node::Null);
        assert_eq!(node(json).get("c").items()[0].get("d").text(), "x");
        assert_eq!(node(json).get("x").get("y").get("z").integer(), None);
        assert_eq!(node(r#"{"SmsID":5}"#).get_any_case("smsId").text(), "5");
        assert_eq!(node(r#"{"SmsID":5}"#).get("smsId").text(), "");
        let mut taken = node(json);
        assert_eq!(taken.take("a").get("b").text(), "1");
        assert_eq!((taken.take("a"), taken.take("x")), (Node::Null, Node::Null));
    }

    #[test]
    fn one_object_reads_like_a_list_of_one() {
        for (json, length) in [("{\"a\":1}", 1), ("[{\"a\":1},2]", 2), ("[]", 0), ("null", 0), ("\"x\"", 0)] {
            assert_eq!(node(json).items().len(), length, "{json}");
        }
    }

    #[test]
    fn broken_documents_are_errors() {
        for json in ["", "{", "{\"a\":}", "{} x", "<html>", "\"\u{1}\"", "{1:2}", "nul"] {
            assert!(Node::parse(json.as_bytes()).is_err(), "{json}");
        }
        assert!(Node::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn nesting_stops_at_its_limit() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Node::parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(Node::parse(nested(DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(Node::parse("[".repeat(100_000).as_bytes()).is_err());
        let objects = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        assert!(Node::parse(objects(DEPTH_MAX).as_bytes()).is_ok());
        assert!(Node::parse(objects(DEPTH_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn a_written_object_reads_back() {
        let text = "سلام \"x\" \\ \n\u{1}\u{7f}";
        let written = Object::new()
            .text("te\"xt", text)
            .number("id", u64::MAX)
            .texts("to", ["a", "b\""])
            .numbers("ids", ["5461268677656004204", "1,2", "", "7"])
            .finish();
        let read: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
        let expected = serde_json::json!({
            "te\"xt": text, "id": u64::MAX, "to": ["a", "b\""], "ids": [5_461_268_677_656_004_204_u64, 7]
        });
        assert_eq!(read, expected);
        assert_eq!(Object::new().finish(), b"{}");
    }

    #[test]
    fn objects_nest() {
        let inner = Object::new().text("a", "\"").boolean("b", false);
        let written =
            Object::new().object("empty", Object::new()).object("inner", inner).number("n", 1).finish();
        assert_eq!(String::from_utf8_lossy(&written), r#"{"empty":{},"inner":{"a":"\"","b":false},"n":1}"#);
    }
}
