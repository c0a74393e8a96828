//! Meli Payamak's stand-in through its three interfaces.

use chelseru_simulator::{Fault, FaultKind, Simulator};
use serde_json::{Value, json};

use crate::client::{Answer, get, post, post_json, request, simulator};

const REST: &str = "/api/SendSMS/SendSMS";
const PATTERN: &str = "/api/SendSMS/BaseServiceNumber";

fn is_rec_id(value: &str) -> bool {
    value.len() >= 15 && value.bytes().all(|byte| byte.is_ascii_digit())
}

async fn soap(simulator: &Simulator, operation: &str, arguments: &str) -> Answer {
    let body = format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><{operation} \
         xmlns=\"http://tempuri.org/\"><username>u</username><password>p</password>{arguments}</{operation}>\
         </s:Body></s:Envelope>"
    );
    request(simulator, "POST", "/post/send.asmx", "text/xml; charset=utf-8", body).await.unwrap()
}

/// Text between the result's tags.
fn result(answer: &Answer, operation: &str) -> String {
    let text = answer.text();
    let (_, rest) = text.split_once(&format!("<{operation}Result>")).unwrap_or_else(|| panic!("{text}"));
    rest.split_once(&format!("</{operation}Result>")).expect("an end tag").0.to_owned()
}

#[tokio::test]
async fn rest_sends_take_form_and_json_and_answer_one_result_for_each_receiver() {
    let simulator = simulator();
    let form = "username=u&password=p&to=09121234567&from=5000&text=hi&isFlash=False";
    let answer = post(&simulator, REST, form).await.json();
    assert!(is_rec_id(answer["Value"].as_str().unwrap()), "{answer}");
    let body = json!({"username": "u", "password": "p", "to": "09121234567,1", "from": "5000", "text": "hi"});
    let answer = post_json(&simulator, REST, &body).await.json();
    let values: Vec<_> = answer["Value"].as_str().unwrap().split(',').collect();
    assert!(is_rec_id(values[0]) && values[1] == "18", "{answer}");
    assert_eq!(simulator.accepted("meli_payamak"), 2);
    let delivery = format!("username=u&password=p&recID={}", values[0]);
    assert_eq!(post(&simulator, "/api/SendSMS/GetDeliveries2", &delivery).await.json()["Value"], "1");
    simulator.settings(|settings| settings.meli_payamak.credit = 7);
    let credit = post(&simulator, "/api/SendSMS/GetCredit2", "username=u&password=p").await.json();
    assert_eq!(credit["Value"], "5");
}

#[tokio::test]
async fn rest_refuses_with_a_code_that_the_status_fields_do_not_show() {
    let simulator = simulator();
    simulator.settings(|settings| {
        settings.meli_payamak.accounts = Some([("u".to_owned(), "53CR3T".to_owned())].into());
        settings.meli_payamak.senders = Some(["5000".to_owned()].into());
        settings.meli_payamak.patterns = Some([("12345".to_owned(), 2)].into());
        settings.meli_payamak.credit = 1;
    });
    for (target, fields, code) in [
        (REST, "from=5001&to=09121234567&text=x", "5"),
        (REST, "from=5000&to=09121234567&text=", "17"),
        (REST, "from=5000&to=&text=x", "16"),
        (REST, "from=5000&to=1&text=x", "18"),
        (PATTERN, "bodyId=1&to=09121234567&text=a;b", "-4"),
        (PATTERN, "bodyId=x&to=09121234567&text=a;b", "-4"),
        (PATTERN, "bodyId=12345&to=09121234567&text=a", "-5"),
        (PATTERN, "bodyId=12345&to=09121234567&text=a;b;c", "-5"),
        (PATTERN, "bodyId=12345&to=09121234567&text=a;http://x", "-10"),
        (PATTERN, "bodyId=12345&to=09121234567,09121234568&text=a;b", "-2"),
    ] {
        let answer = post(&simulator, target, &format!("username=u&password=53CR3T&{fields}")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!({"Value": code, "RetStatus": 1, "StrRetStatus": "Ok"}), "{fields}");
    }
    let wrong = post(&simulator, REST, "username=u&password=no&from=5000&to=09121234567&text=x").await.json();
    assert_eq!(wrong["Value"], "0");
    assert!(simulator.messages().is_empty());
    let good = "username=u&password=53CR3T&bodyId=12345&to=09121234567&text=a;b";
    assert!(is_rec_id(post(&simulator, PATTERN, good).await.json()["Value"].as_str().unwrap()));
    assert_eq!(post(&simulator, PATTERN, good).await.json()["Value"], "2", "the credit is spent");
    assert_eq!(simulator.messages()[0].tokens.len(), 2);
    assert!(!get(&simulator, "/_sim/requests").await.text().contains("53CR3T"));
}

#[tokio::test]
async fn soap_operations_answer_in_their_own_shapes() {
    let simulator = simulator();
    let sent =
        soap(&simulator, "SendSimpleSMS2", "<to>09121234567</to><from>5000</from><text>a &amp; b</text>")
            .await;
    let id = result(&sent, "SendSimpleSMS2");
    assert!(sent.status == 200 && is_rec_id(&id), "{id}");
    assert_eq!(simulator.messages()[0].text.as_deref(), Some("a & b"));
    let many = "<to><string>09121234567</string><string>1</string></to><from>5000</from><text>x</text>";
    let many = result(&soap(&simulator, "SendSimpleSMS", many).await, "SendSimpleSMS");
    assert!(many.contains("<string>18</string>") && many.contains("<string>546"), "{many}");
    let pattern = "<text><string>1</string><string>2</string></text><to>09121234567</to><bodyId>5</bodyId>";
    assert!(is_rec_id(&result(&soap(&simulator, "SendByBaseNumber", pattern).await, "SendByBaseNumber")));
    let pattern = "<text>1;2</text><to>09121234567</to><bodyId>5</bodyId>";
    assert!(is_rec_id(&result(&soap(&simulator, "SendByBaseNumber2", pattern).await, "SendByBaseNumber2")));
    let messages = simulator.messages();
    assert_eq!(messages[2].tokens, messages[3].tokens);
    let states = format!("<recIds><long>{id}</long><long>5</long></recIds>");
    let states = result(&soap(&simulator, "GetDeliveries", &states).await, "GetDeliveries");
    assert_eq!(states, "<int>1</int><int>100</int>");
    let empty = soap(&simulator, "SendSimpleSMS2", "<to>09121234567</to><from>5000</from><text/>").await;
    assert_eq!(result(&empty, "SendSimpleSMS2"), "17");
}

#[tokio::test]
async fn soap_describes_itself_and_answers_nonsense_with_a_fault() {
    let simulator = simulator();
    let wsdl = get(&simulator, "/post/send.asmx?wsdl").await.text();
    assert!(wsdl.contains("SendSimpleSMS2") && wsdl.contains("/post/send.asmx"), "{wsdl}");
    for body in ["", "<a>", "<Envelope><Body><Nothing/></Body></Envelope>"] {
        let answer = request(&simulator, "POST", "/post/send.asmx", "text/xml", body).await.unwrap();
        assert_eq!(answer.status, 500);
        assert!(answer.text().contains("<faultstring>"), "{}", answer.text());
    }
}

#[tokio::test]
async fn the_console_answers_numbers_past_two_to_the_53_and_sentences_instead_of_codes() {
    let simulator = simulator();
    simulator.settings(|settings| settings.meli_payamak.tokens = Some(["53CR3T".to_owned()].into()));
    let send = |name: &str, body: Value| {
        let (target, simulator) = (format!("/api/{name}/53CR3T"), &simulator);
        async move { post_json(simulator, &target, &body).await }
    };
    let simple = send("send/simple", json!({"from": "5000", "to": "09121234567", "text": "x"})).await.json();
    assert_eq!(simple["status"], "");
    let id = simple["recId"].as_u64().unwrap();
    assert!(id > 1 << 53);
    let many =
        send("send/advanced", json!({"from": "5000", "to": ["09121234567", "1"], "text": "x"})).await.json();
    assert!(many["recIds"][0].as_u64().unwrap() > id && many["recIds"][1] == 0, "{many}");
    let shared =
        send("send/shared", json!({"bodyId": 5, "to": "09121234567", "args": ["1", "2"]})).await.json();
    assert!(shared["recId"].as_u64().unwrap() > id);
    let otp = send("send/otp", json!({"to": "09121234567"})).await.json();
    let code = otp["code"].as_str().unwrap();
    assert_eq!(code.len(), 6);
    assert_eq!(simulator.messages().last().unwrap().tokens, [("code".to_owned(), code.to_owned())]);
    let states = send("receive/status", json!({"recIds": [id, 5]})).await.json();
    assert_eq!(states["resultsAsCode"], json!([1, 100]));
    let credit = get(&simulator, "/api/receive/credit/53CR3T").await.json();
    assert_eq!((credit["amount"].is_number(), &credit["status"]), (true, &json!("")));

    let refused = send("send/simple", json!({"from": "5000", "to": "1", "text": "x"})).await;
    assert_eq!((refused.status, &refused.json()["recId"]), (200, &json!(0)));
    assert!(!refused.json()["status"].as_str().unwrap().is_empty());
    let missing = send("send/simple", json!({"from": "5000", "to": "09121234567"})).await;
    assert_eq!((missing.status, &missing.json()["status"]), (400, &json!(400)));
    assert!(missing.json()["errors"]["text"].is_array());
    let too_many = send("receive/status", json!({"recIds": vec![5; 101]})).await;
    assert_eq!(too_many.status, 400);
    let stranger = post_json(&simulator, "/api/send/simple/OTHER", &json!({"from": "5000"})).await.json();
    assert_eq!(stranger["recId"], 0);
    let log = get(&simulator, "/_sim/requests").await.text();
    assert!(log.contains("/api/send/simple/***") && !log.contains("53CR3T"), "{log}");
}

#[tokio::test]
async fn a_scripted_code_comes_in_the_shape_of_the_interface_that_is_asked() {
    let simulator = simulator();
    simulator.fault(Fault::code("meli_payamak", 2)).unwrap();
    let form = "username=u&password=p&to=09121234567&from=5000&text=hi";
    assert_eq!(post(&simulator, REST, form).await.json()["Value"], "2");
    assert_eq!(result(&soap(&simulator, "SendSimpleSMS2", "").await, "SendSimpleSMS2"), "2");
    assert_eq!(result(&soap(&simulator, "SendSimpleSMS", "").await, "SendSimpleSMS"), "<string>2</string>");
    let body = json!({"from": "5000", "to": "09121234567", "text": "x"});
    assert_eq!(post_json(&simulator, "/api/send/simple/T", &body).await.json()["recId"], 0);
    assert_eq!(simulator.accepted("meli_payamak"), 0);
    simulator.reset();
    let fault =
        Fault::new("meli_payamak", FaultKind::CutAfter).method("soap/SendSimpleSMS2").number("09121234567");
    simulator.fault(fault.times(1)).unwrap();
    assert!(is_rec_id(post(&simulator, REST, form).await.json()["Value"].as_str().unwrap()));
    let body = "<Envelope><Body><SendSimpleSMS2><username>u</username><password>p</password><to>9121234567</to>\
                <from>5000</from><text>x</text></SendSimpleSMS2></Body></Envelope>";
    assert!(request(&simulator, "POST", "/post/send.asmx", "text/xml", body).await.is_err());
    assert_eq!(simulator.accepted("meli_payamak"), 2);
}
