//! The part of SOAP 1.1 that the stand-in needs: parse an operation from an envelope, and write the reply.
//!
//! Accepts any namespace prefix, attributes, comments and CDATA. Refuses document types, so no entity can be
//! declared. Invariant: any bytes yield an `Err` or an operation, never a panic, in time linear in their length.

use std::fmt::Write;

/// A request: `<Body><operation><name>text</name><list><string>item</string></list></operation></Body>`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) name: String,
    arguments: Vec<Argument>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Argument {
    name: String,
    text: String,
    items: Vec<String>,
}

impl Operation {
    /// Reads an envelope.
    ///
    /// Errors: the text of the fault to answer.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        let mut rest = std::str::from_utf8(body).map_err(|_| "the envelope is not UTF-8")?;
        let mut operation = None::<Self>;
        // Local names from the root to the current element.
        let mut path: Vec<&str> = Vec::new();
        while let Some(at) = rest.find('<') {
            text(&mut operation, &path, &unescaped(&rest[..at])?);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("<!--") {
                rest = after.split_once("-->").ok_or("a comment does not end")?.1;
            } else if let Some(after) = rest.strip_prefix("<![CDATA[") {
                let (raw, after) = after.split_once("]]>").ok_or("a CDATA section does not end")?;
                text(&mut operation, &path, raw);
                rest = after;
            } else if let Some(after) = rest.strip_prefix("<?") {
                rest = after.split_once("?>").ok_or("a processing instruction does not end")?.1;
            } else if rest.starts_with("<!") {
                return Err("document types are not accepted".into());
            } else if let Some(after) = rest.strip_prefix("</") {
                let (name, after) = after.split_once('>').ok_or("a tag does not end")?;
                if path.pop() != Some(local(name)) {
                    return Err(format!("unexpected end tag {name:?}"));
                }
                rest = after;
            } else {
                let end = tag_end(rest).ok_or("a tag does not end")?;
                let tag = &rest[1..end];
                let name = local(tag.split([' ', '\t', '\r', '\n', '/']).next().unwrap_or_default());
                if name.is_empty() {
                    return Err("a tag has no name".into());
                }
                path.push(name);
                opened(&mut operation, &path)?;
                if tag.ends_with('/') {
                    path.pop();
                }
                rest = &rest[end + 1..];
            }
        }
        if !path.is_empty() {
            return Err(format!("the element {:?} does not end", path.join("/")));
        }
        operation.ok_or_else(|| "the envelope's body is empty".into())
    }

    /// Text of an argument, trimmed. Names match ignoring case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.argument(name).map(|argument| argument.text.trim())
    }

    /// Items of a list argument; plain text counts as one item.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        match self.argument(name) {
            Some(argument) if !argument.items.is_empty() => argument.items.clone(),
            Some(argument) if !argument.text.trim().is_empty() => vec![argument.text.trim().to_owned()],
            _ => Vec::new(),
        }
    }

    fn argument(&self, name: &str) -> Option<&Argument> {
        self.arguments.iter().find(|argument| argument.name.eq_ignore_ascii_case(name))
    }
}

/// Records a newly opened element: an operation, an argument or a list item.
fn opened(operation: &mut Option<Operation>, path: &[&str]) -> Result<(), String> {
    match (path, operation) {
        ([root], _) if *root != "Envelope" => Err(format!("{root:?} is not an envelope")),
        (["Envelope", "Body", name], operation) => match operation {
            None => {
                *operation = Some(Operation { name: (*name).to_owned(), arguments: Vec::new() });
                Ok(())
            }
            Some(_) => Err("the envelope's body holds more than one operation".into()),
        },
        (["Envelope", "Body", _, name], Some(operation)) => {
            operation.arguments.push(Argument { name: (*name).to_owned(), ..Argument::default() });
            Ok(())
        }
        (["Envelope", "Body", _, _, _], Some(operation)) => {
            if let Some(argument) = operation.arguments.last_mut() {
                argument.items.push(String::new());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Adds character data to the open argument or item.
fn text(operation: &mut Option<Operation>, path: &[&str], text: &str) {
    let argument = operation.as_mut().and_then(|operation| operation.arguments.last_mut());
    match (path.len(), argument) {
        (4, Some(argument)) => argument.text.push_str(text),
        (5, Some(argument)) => {
            if let Some(item) = argument.items.last_mut() {
                item.push_str(text);
            }
        }
        _ => {}
    }
}

/// Index of the `>` that ends the tag at the start of `text`; quoted attribute values may contain one.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (index, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(index),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

fn local(name: &str) -> &str {
    let name = name.trim();
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (entity, after) = after.split_once(';').ok_or("an entity does not end")?;
        let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let letter = match entity {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => match (entity.strip_prefix("#x"), entity.strip_prefix('#')) {
                (Some(digits), _) => number(digits, 16),
                (None, Some(digits)) => number(digits, 10),
                (None, None) => None,
            },
        };
        out.push(letter.ok_or_else(|| format!("the entity {entity:?} is not known"))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The reply to an operation; `result` is already XML.
pub(crate) fn answer(operation: &str, result: &str) -> String {
    envelope(&format!(
        "<{operation}Response xmlns=\"http://tempuri.org/\"><{operation}Result>{result}</{operation}Result>\
         </{operation}Response>"
    ))
}

/// A fault, worded like the provider's framework.
pub(crate) fn fault(text: &str) -> String {
    envelope(&format!(
        "<soap:Fault><faultcode>soap:Client</faultcode><faultstring>{}</faultstring><detail /></soap:Fault>",
        escaped(text)
    ))
}

/// A service description that SOAP clients can generate code from: each operation with its named string arguments
/// (`[]` marks an array) and result type.
pub(crate) fn wsdl(location: &str, operations: &[(&str, &[&str], &str)]) -> String {
    let (mut types, mut messages, mut ports, mut bindings) =
        (String::new(), String::new(), String::new(), String::new());
    for (name, arguments, result) in operations {
        let mut fields = String::new();
        for argument in *arguments {
            let (argument, kind) = match argument.strip_suffix("[]") {
                Some(argument) => (argument, "tns:ArrayOfString"),
                None => (*argument, "s:string"),
            };
            let _ = write!(fields, r#"<s:element minOccurs="0" name="{argument}" type="{kind}"/>"#);
        }
        let _ = write!(
            types,
            r#"<s:element name="{name}"><s:complexType><s:sequence>{fields}</s:sequence></s:complexType></s:element><s:element name="{name}Response"><s:complexType><s:sequence><s:element minOccurs="0" name="{name}Result" type="{result}"/></s:sequence></s:complexType></s:element>"#
        );
        let _ = write!(
            messages,
            r#"<wsdl:message name="{name}In"><wsdl:part name="parameters" element="tns:{name}"/></wsdl:message><wsdl:message name="{name}Out"><wsdl:part name="parameters" element="tns:{name}Response"/></wsdl:message>"#
        );
        let _ = write!(
            ports,
            r#"<wsdl:operation name="{name}"><wsdl:input message="tns:{name}In"/><wsdl:output message="tns:{name}Out"/></wsdl:operation>"#
        );
        let _ = write!(
            bindings,
            r#"<wsdl:operation name="{name}"><soap:operation soapAction="http://tempuri.org/{name}" style="document"/><wsdl:input><soap:body use="literal"/></wsdl:input><wsdl:output><soap:body use="literal"/></wsdl:output></wsdl:operation>"#
        );
    }
    let array = |name: &str, item: &str| {
        format!(
            r#"<s:complexType name="{name}"><s:sequence><s:element minOccurs="0" maxOccurs="unbounded" name="{item}" type="s:{item}"/></s:sequence></s:complexType>"#
        )
    };
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:s="http://www.w3.org/2001/XMLSchema" xmlns:tns="http://tempuri.org/" targetNamespace="http://tempuri.org/"><wsdl:types><s:schema elementFormDefault="qualified" targetNamespace="http://tempuri.org/">{types}{}{}</s:schema></wsdl:types>{messages}<wsdl:portType name="ServiceSoap">{ports}</wsdl:portType><wsdl:binding name="ServiceSoap" type="tns:ServiceSoap"><soap:binding transport="http://schemas.xmlsoap.org/soap/http"/>{bindings}</wsdl:binding><wsdl:service name="Service"><wsdl:port name="ServiceSoap" binding="tns:ServiceSoap"><soap:address location="{}"/></wsdl:port></wsdl:service></wsdl:definitions>"#,
        array("ArrayOfString", "string"),
        array("ArrayOfInt", "int"),
        escaped(location)
    )
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap:Envelope \
         xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>{body}</soap:Body></soap:Envelope>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEND: &str = r#"<?xml version="1.0"?><!-- a > b --><e:Envelope xmlns:e="x>y"><e:Header/><e:Body>
        <n:Send xmlns:n='t'><n:to>09121234567</n:to><n:text>a &amp; &#1587;<![CDATA[<b>]]></n:text>
        <n:many><n:string>1</n:string><n:string/><n:string>3</n:string></n:many><n:none/></n:Send></e:Body></e:Envelope>"#;

    #[test]
    fn an_operation_is_read_whatever_its_prefixes() {
        let operation = Operation::read(SEND.as_bytes()).unwrap();
        assert_eq!(operation.name, "Send");
        assert_eq!(operation.get("TO"), Some("09121234567"));
        assert_eq!(operation.get("text"), Some("a & س<b>"));
        assert_eq!(operation.list("many"), ["1", "", "3"]);
        assert_eq!(operation.list("to"), ["09121234567"]);
        assert_eq!((operation.get("none"), operation.get("missing")), (Some(""), None));
    }

    #[test]
    fn a_cut_or_hostile_envelope_is_an_error_and_never_a_panic() {
        for end in (0..SEND.len()).filter(|end| SEND.is_char_boundary(*end)) {
            assert!(Operation::read(&SEND.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        for wrong in [
            "<!DOCTYPE x [<!ENTITY a \"b\">]><Envelope/>",
            "<Envelope><Body><A/><B/></Body></Envelope>",
            "<Envelope><Body></Envelope></Body>",
            "<Envelope><Body><A>&nope;</A></Body></Envelope>",
            "<Envelope><Body><A>&#x110000;</A></Body></Envelope>",
            "<Other/>",
            "<>",
            "</>",
            "< a='",
        ] {
            assert!(Operation::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(Operation::read(&[0xff, b'<', b'>']).is_err());
    }

    #[test]
    fn an_answer_can_be_read_back() {
        let text = answer("Send", &escaped("a<b&c"));
        let back = Operation::read(text.as_bytes()).unwrap();
        assert_eq!((back.name.as_str(), back.get("SendResult")), ("SendResponse", Some("a<b&c")));
    }
}
