//! JSON objects of fields: texts, numbers, and lists of them.
//!
//! A tree of JSON takes up to a hundred times the memory of its text: `{"":0}` has seven characters and takes 640
//! bytes. No route needs one. So the fields of an object are kept, and of a list its elements; what lies deeper is
//! read, checked and dropped. It leaves an empty object or list, which a field's own check refuses as it refuses a full
//! one. Invariant: what is an error for `serde_json::Value` is the same error here, with the same text, and of a field
//! that is there twice the last one counts. Not here: the rules of the fields (see `fields`).

use std::fmt;

use chelseru_domain::chat::MEMBERS;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Elements of all lists of one body. The longest list names the members of a new room. A list that goes past it leaves
/// an empty object, which is no list.
const ELEMENTS_MAX: usize = MEMBERS.greatest as usize;

/// Memory of an element: 32 bytes in a list that may be twice as long as needed, or with a short text of its own.
const ELEMENT_BYTES: u64 = 64;

/// A JSON value of which only fields and elements were kept.
#[derive(Debug)]
pub(crate) struct Flat {
    pub(crate) value: Value,
    /// Memory that the lists take at most. Texts take no more than they took in the body.
    pub(crate) list_bytes: u64,
}

/// Reads a body. Of an object's fields one past `fields_max` is kept, no more.
///
/// # Errors
///
/// The body is not JSON, or has more than 127 levels.
pub(crate) fn read(body: &[u8], fields_max: usize) -> Result<Flat, serde_json::Error> {
    let mut kept = Kept { fields_max, elements: 0 };
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = Reader { level: Level::Body, kept: &mut kept }.deserialize(&mut json)?;
    json.end()?;
    Ok(Flat { value, list_bytes: kept.elements as u64 * ELEMENT_BYTES })
}

/// What was kept so far.
struct Kept {
    fields_max: usize,
    elements: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Body,
    Field,
    Element,
    /// Keys and values that nobody needs.
    Deeper,
}

struct Reader<'a> {
    level: Level,
    kept: &'a mut Kept,
}

impl Reader<'_> {
    fn at(&mut self, level: Level) -> Reader<'_> {
        Reader { level, kept: &mut *self.kept }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        // Not `IgnoredAny`, also for what is dropped: it would read more levels, and texts that are not UTF-8.
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(if self.level == Level::Deeper { Value::Null } else { value.into() })
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        if self.level == Level::Field {
            while self.kept.elements < ELEMENTS_MAX {
                let Some(element) = list.next_element_seed(self.at(Level::Element))? else {
                    return Ok(Value::Array(elements));
                };
                self.kept.elements += 1;
                elements.push(element);
            }
        }
        let mut is_longer = false;
        while list.next_element_seed(self.at(Level::Deeper))?.is_some() {
            is_longer = true;
        }
        Ok(match self.level {
            Level::Field if is_longer => Value::Object(Map::new()),
            _ => Value::Array(elements),
        })
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        if self.level != Level::Body {
            while object.next_key_seed(self.at(Level::Deeper))?.is_some() {
                object.next_value_seed(self.at(Level::Deeper))?;
            }
            return Ok(Value::Object(fields));
        }
        while let Some(name) = object.next_key::<String>()? {
            if fields.len() > self.kept.fields_max && !fields.contains_key(&name) {
                object.next_value_seed(self.at(Level::Deeper))?;
                continue;
            }
            let value = object.next_value_seed(self.at(Level::Field))?;
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flat(body: &str) -> Value {
        read(body.as_bytes(), 100).expect("JSON").value
    }

    /// Values in a tree, itself included.
    fn nodes(value: &Value) -> usize {
        1 + match value {
            Value::Array(list) => list.iter().map(nodes).sum(),
            Value::Object(object) => object.values().map(nodes).sum(),
            _ => 0,
        }
    }

    /// A body of a megabyte with a piece as often as it fits.
    fn megabyte(before: &str, piece: &str, after: &str) -> String {
        let count = (1024 * 1024 - before.len() - after.len()) / (piece.len() + 1);
        format!("{before}{}{after}", vec![piece; count].join(","))
    }

    #[test]
    fn fields_and_lists_are_kept_and_what_lies_deeper_leaves_its_kind() {
        let body =
            r#"{"a":" x ","b":-1,"c":1.5,"d":true,"e":null,"f":[1,"2",null,[3],{"g":4}],"h":{"i":[5]}}"#;
        let kept = json!({
            "a": " x ", "b": -1, "c": 1.5, "d": true, "e": null, "f": [1, "2", null, [], {}], "h": {},
        });
        assert_eq!(flat(body), kept);
        assert_eq!(flat(r#"{"a":[1],"a":{"b":2},"c":{},"c":[3]}"#), json!({"a": {}, "c": [3]}));
        assert_eq!(flat("[[1],2]"), json!([]));
        assert_eq!(flat("7"), json!(7));
    }

    #[test]
    fn a_hostile_body_leaves_little() {
        for (before, piece, after) in [
            (r#"{"x":["#, r#"{"":0}"#, "]}"),
            (r#"{"x":["#, "[0]", "]}"),
            (r#"{"x":["#, "0", "]}"),
            (r#"{"x":["#, r#""""#, "]}"),
            (r#"{"x":{"y":["#, "[0]", "]}}"),
            (r#"{"x":{"#, r#""":{}"#, "}}"),
            (r#"{"x":["#, "0", r#"],"y":[0]}"#),
            ("{", r#""":[0,0,0,0,0,0,0,0]"#, "}"),
            ("[", r#"{"":0}"#, "]"),
        ] {
            let body = megabyte(before, piece, after);
            let read = read(body.as_bytes(), 100).expect("JSON");
            let kept = nodes(&read.value);
            assert!(kept <= ELEMENTS_MAX + 2, "{piece}: {kept} values are kept");
            assert!(read.list_bytes >= 32 * kept.saturating_sub(102) as u64, "{piece}: {}", read.list_bytes);
        }
        let names: Vec<_> = (0..50_000).map(|name| format!(r#""{name}":[1]"#)).collect();
        let read = read(format!("{{{}}}", names.join(",")).as_bytes(), 100).expect("JSON");
        assert_eq!(nodes(&read.value), 1 + 2 * 101, "one field more than allowed, which is refused");
        assert_eq!(read.list_bytes, 101 * ELEMENT_BYTES);
    }

    #[test]
    fn lists_have_as_many_elements_as_a_room_has_members() {
        for (elements, is_list) in [(ELEMENTS_MAX - 1, true), (ELEMENTS_MAX, true), (ELEMENTS_MAX + 1, false)]
        {
            let body = json!({"x": vec![0; elements]}).to_string();
            assert_eq!(flat(&body)["x"].is_array(), is_list, "{elements}");
        }
        let two = json!({"x": vec![0; ELEMENTS_MAX], "y": [0], "z": []}).to_string();
        assert_eq!(flat(&two)["x"].as_array().map(Vec::len), Some(ELEMENTS_MAX));
        assert_eq!((&flat(&two)["y"], &flat(&two)["z"]), (&json!({}), &json!([])));
    }

    #[test]
    fn what_is_no_json_is_the_same_error_as_for_a_tree() {
        let nested = |levels: usize| {
            let objects = format!(r#"{{"a":{}1{}}}"#, r#"{"b":"#.repeat(levels), "}".repeat(levels));
            let lists = format!(r#"{{"a":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
            [objects, lists]
        };
        let deep = [125, 126, 127, 128, 129, 5000].map(nested).into_iter().flatten();
        let broken = [
            "",
            "{",
            r#"{"a"#,
            r#"{"a":"#,
            r#"{"a":1,}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":{"b":tru}}"#,
            "{} {}",
            "nul",
            r#"{1:2}"#,
            r#"{"a":{1:2}}"#,
            r#"{"a":{"b":1e999}}"#,
            r#"{"a":[[1e999]]}"#,
            r#"{"a":01}"#,
            r#"{"a":["\ud800"]}"#,
            r#"{"a":{"b":"\ud800"}}"#,
            r#"{"a":{"\ud800":1}}"#,
            "{\"a\":[[\"\n\"]]}",
            "{\"a\":\n{\"b\":\n[1,\n}}",
            r#"{"a":{"b":"\x"}}"#,
            "{}",
            "[]",
            "1.5",
            "\"x\"",
        ]
        .map(str::to_owned);
        let texts = deep.chain(broken).map(String::into_bytes);
        let bytes = [&b"{\"a\":{\"b\":\"\xff\"}}"[..], b"{\"a\":[[\"\xff\"]]}", b"{\"a\":{\"\xff\":1}}"];
        for body in texts.chain(bytes.map(<[u8]>::to_vec)) {
            let tree = serde_json::from_slice::<Value>(&body).map(drop).map_err(|error| error.to_string());
            let read = read(&body, 100).map(drop).map_err(|error| error.to_string());
            assert_eq!(read, tree, "{}", String::from_utf8_lossy(&body[..body.len().min(80)]));
        }
    }
}
