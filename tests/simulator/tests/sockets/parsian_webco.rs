//! Parsian Webco's stand-in: templates in every form that a public client uses.

use chelseru_simulator::Fault;
use serde_json::json;

use crate::client::{get, post, post_json, request, simulator};

const SEND: &str = "/webservice-send-sms/send";

#[tokio::test]
async fn a_template_is_accepted_in_every_spelling_of_its_fields() {
    let simulator = simulator();
    for form in [
        "token=t&TemplateID=7&MessageVars=482913,x&Receiver=09120000001&delay=1",
        "token=t&templateid=7&messagevars[0]=482913&messagevars[1]=x&receiver[0]=09120000001&Delay=1",
        "cid=5&cpass=t&TemplateID=7&MessageVars[]=482913&MessageVars[]=x&Receiver=09120000001",
    ] {
        let answer = post(&simulator, SEND, form).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"status": 200})), "{form}");
    }
    let body =
        json!({"token": "t", "TemplateID": 7, "MessageVars": ["482913", "x"], "Receiver": "09120000001"});
    assert_eq!(post_json(&simulator, SEND, &body).await.json(), json!({"status": 200}));
    let part = |name: &str, value: &str| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let parts =
        [("token", "t"), ("TemplateID", "7"), ("MessageVars", "482913,x"), ("Receiver", "09120000001")];
    let body = parts.iter().map(|(name, value)| part(name, value)).collect::<String>() + "--B--\r\n";
    let answer = request(&simulator, "POST", SEND, "multipart/form-data; boundary=B", body).await.unwrap();
    assert_eq!(answer.json(), json!({"status": 200}));
    let messages = simulator.messages();
    assert_eq!(messages.len(), 5);
    let tokens = [("1".to_owned(), "482913".to_owned()), ("2".to_owned(), "x".to_owned())];
    for message in messages {
        assert_eq!((message.template.as_deref(), message.number.as_str()), (Some("7"), "09120000001"));
        assert_eq!(message.tokens, tokens);
    }
}

#[tokio::test]
async fn refusals_carry_the_code_and_no_credential_reaches_the_log() {
    let simulator = simulator();
    simulator.settings(|settings| {
        settings.parsian_webco.tokens = Some(["53CR3T".to_owned()].into());
        settings.parsian_webco.templates = Some(["7".to_owned()].into());
    });
    for (form, code) in [
        ("TemplateID=7&MessageVars=1&Receiver=09120000001", 401),
        ("token=other&TemplateID=7&MessageVars=1&Receiver=09120000001", 401),
        ("token=53CR3T&TemplateID=8&MessageVars=1&Receiver=09120000001", 100),
        ("token=53CR3T&TemplateID=x&MessageVars=1&Receiver=09120000001", 100),
        ("token=53CR3T&TemplateID=7&Receiver=09120000001", 100),
        ("token=53CR3T&TemplateID=7&MessageVars=1&Receiver=0912", 100),
        ("token=53CR3T&TemplateID=7&MessageVars=1", 100),
    ] {
        let answer = post(&simulator, SEND, form).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"status": code})), "{form}");
    }
    assert!(simulator.messages().is_empty());
    assert!(!get(&simulator, "/_sim/requests").await.text().contains("53CR3T"));
}

#[tokio::test]
async fn unknown_shapes_follow_the_settings() {
    let simulator = simulator();
    simulator.settings(|settings| {
        settings.parsian_webco.id_field = Some("data.smsID".into());
        settings.parsian_webco.status_as_text = true;
        settings.parsian_webco.http_status_follows_code = true;
        settings.parsian_webco.credit = 1;
    });
    let form = "token=t&TemplateID=7&MessageVars=1&Receiver=09120000001";
    let sent = post(&simulator, SEND, form).await.json();
    let id = simulator.messages()[0].id.clone();
    assert_eq!(sent, json!({"status": "200", "data": {"smsID": id.parse::<u64>().unwrap()}}));
    let check = format!("token=t&smsID={id}");
    assert_eq!(post(&simulator, "/webservice-check-sms/get", &check).await.json()["status"], "200");
    let stranger = post(&simulator, "/webservice-check-sms/get", &format!("token=u&smsID={id}")).await;
    assert_eq!(stranger.json()["status"], "100");
    let credit = post(&simulator, "/webservice-get-credit/get", "token=t").await.json();
    assert_eq!(credit["credit"], 0);
    assert_eq!(post(&simulator, SEND, form).await.json()["status"], "100", "no credit is left");
    let unauthorized = post(&simulator, SEND, "").await;
    assert_eq!((unauthorized.status, unauthorized.json()), (401, json!({"status": "401"})));
}

#[tokio::test]
async fn faults_strike_by_call_and_number() {
    let simulator = simulator();
    simulator.fault(Fault::code("parsian_webco", 100).method("send").number("09120000001").times(1)).unwrap();
    let form = |number: &str| format!("token=t&TemplateID=7&MessageVars=1&Receiver={number}");
    assert_eq!(post(&simulator, SEND, &form("09120000002")).await.json()["status"], 200);
    assert_eq!(post(&simulator, SEND, &form("09120000001")).await.json()["status"], 100);
    assert_eq!(post(&simulator, SEND, &form("09120000001")).await.json()["status"], 200);
}
