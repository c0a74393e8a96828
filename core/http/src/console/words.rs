//! Every text of the console in its languages, Persian first.
//!
//! A key without one of the languages does not compile. A test holds that no text is empty and that each is in its
//! script.

macro_rules! words {
    ($($key:ident: $fa:literal, $en:literal;)*) => {
        /// The texts of one language.
        pub(crate) struct Words {
            $(pub(crate) $key: &'static str,)*
        }

        const FA: Words = Words { $($key: $fa,)* };
        const EN: Words = Words { $($key: $en,)* };

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($key), $fa, $en),)*];
    };
}

words! {
    login: "ورود", "Log in";
    login_title: "ورود اپراتور", "Operator login";
    username: "نام کاربری", "User name";
    password: "رمز عبور", "Password";
    code: "کد عامل دوم یا کد بازیابی", "Second factor or recovery code";
    login_wrong: "نام، رمز یا کد درست نیست.", "The name, the password or the code is wrong.";
    login_waiting: "تلاش‌های زیادی شد؛ کمی بعد دوباره امتحان کنید.", "Too many attempts; try again later.";
    login_busy: "ورودهای زیادی در صف است؛ دوباره امتحان کنید.", "Too many logins are waiting; try again.";
    login_hint: "بار نخست، یا بدون عامل دوم: روی دستگاه دروازه این فرمان را بزنید:",
        "First time, or no second factor: run this command on the gateway's machine:";
    link_title: "ورود با پیوند یک‌باره", "One-time link";
    link_text: "این پیوند یک بار کار می‌کند.", "This link works once.";
    link_wrong: "این پیوند نامعتبر است، به کار رفته یا زمانش گذشته است.",
        "This link is wrong, used or expired.";
    enter: "ورود به کنسول", "Enter the console";
    logout: "خروج", "Log out";
    menu: "فهرست", "Menu";
    skip: "پرش به محتوا", "Skip to content";
    me: "حساب من", "My account";
    overview: "نمای کلی", "Overview";
    users: "کاربران", "Users";
    user: "کاربر", "User";
    payments: "پرداخت‌ها", "Payments";
    payment: "پرداخت", "Payment";
    wallets: "کیف پول‌ها", "Wallets";
    wallet: "کیف پول", "Wallet";
    messages: "پیامک‌ها", "Messages (SMS)";
    message: "پیامک", "Message";
    webhooks: "وب‌هوک‌ها", "Webhooks";
    audit: "دفتر رویدادها", "Audit log";
    api_keys: "کلیدهای API", "API keys";
    operators: "اپراتورها", "Operators";
    sessions: "نشست‌ها", "Sessions";
    search: "جستجو", "Search";
    search_user: "بخشی از شماره، نام یا ایمیل", "Part of a number, a name or a mail address";
    filter: "اعمال", "Apply";
    clear: "پاک کردن", "Clear";
    any: "همه", "Any";
    next: "صفحهٔ بعد", "Next page";
    first: "صفحهٔ نخست", "First page";
    csv: "دریافت CSV", "Download CSV";
    none: "چیزی یافت نشد.", "Nothing was found.";
    more_looked: "هنوز همه بررسی نشده است؛ صفحهٔ بعد ادامه می‌دهد.",
        "Not everything was examined yet; the next page continues.";
    users_unsearched: "کاربرهای تا شمارهٔ {id} با بخشی از متن جستجو نمی‌شوند؛ شماره یا نام کامل را بنویسید.",
        "Users up to number {id} are not searched by parts; type the whole number or name.";
    uploads: "پرونده‌ها", "Files";
    uploads_bytes: "حجم همهٔ پرونده‌ها (بایت)", "Bytes of all files";
    bytes_min: "دست‌کم این حجم (بایت)", "At least this large (bytes)";
    file_kind: "نوع", "Type";
    file_remove: "حذف", "Remove";
    avatar: "تصویر گروه", "Avatar";
    picture: "تصویر کاربر", "User picture";
    trends: "۲۴ ساعت گذشته", "The last 24 hours";
    trend_requests: "درخواست‌ها", "Requests";
    trend_logins: "ورودها", "Logins";
    trend_messages: "پیامک‌های فرستاده", "Messages sent";
    trend_messages_failed: "پیامک‌های نافرستاده", "Messages not sent";
    trend_provider_errors: "خطاهای ارائه‌دهنده‌ها", "Provider errors";
    trend_webhooks: "رویدادهای وب‌هوک", "Webhook deliveries";
    yes: "بله", "Yes";
    no: "خیر", "No";
    id: "شماره", "Number";
    name: "نام", "Name";
    number: "شمارهٔ موبایل", "Mobile number";
    email: "ایمیل", "Mail address";
    group: "گروه", "Group";
    state: "وضعیت", "State";
    rights: "دسترسی", "Rights";
    rights_none: "عادی", "None";
    rights_staff: "کارمند", "Staff";
    rights_superuser: "مدیر کل", "Superuser";
    joined: "عضویت", "Joined";
    last_login: "آخرین ورود", "Last login";
    active: "فعال", "Active";
    disabled: "غیرفعال", "Disabled";
    from: "از تاریخ", "From";
    until: "تا پیش از تاریخ", "Before";
    date_hint: "۱۴۰۵/۰۹/۰۵ یا 2026-11-26", "1405/09/05 or 2026-11-26";
    date_wrong: "تاریخ را مانند ۱۴۰۵/۰۹/۰۵ یا 2026-11-26 بنویسید.", "Write a date like 1405/09/05 or 2026-11-26.";
    number_wrong: "یک عدد بنویسید.", "Write a number.";
    choice_wrong: "یکی از گزینه‌ها را انتخاب کنید.", "Select one of the choices.";
    amount_wrong: "مبلغ را به تومان یا ریال بنویسید، مانند ۱۲۵۰۰.", "Write an amount, such as 12500.";
    phone_wrong: "یک شمارهٔ موبایل بنویسید.", "Write a mobile number.";
    user_wrong: "چنین کاربری نیست.", "There is no such user.";
    reason: "دلیل", "Reason";
    reason_missing: "دلیل را بنویسید (حداکثر ۵۰۰ نویسه).", "Write a reason (at most 500 characters).";
    confirm_name: "برای تأیید، این را بنویسید:", "To confirm, type:";
    confirm_choice: "برای تأیید، نام آنچه برگزیده‌اید:", "To confirm, type the name of what you chose:";
    confirm_wrong: "متن تأیید یکی نیست.", "The typed text does not match.";
    done: "انجام شد.", "Done.";
    forbidden: "نقش شما اجازهٔ این کار را نمی‌دهد.", "Your role does not include this.";
    forbidden_title: "اجازه نیست", "Not allowed";
    missing_title: "پیدا نشد", "Not found";
    missing: "چنین چیزی نیست.", "There is no such thing.";
    failed_title: "خطا", "Error";
    failed: "دروازه نتوانست پاسخ دهد؛ گزارش دروازه را ببینید.", "The gateway could not answer; see its log.";
    form_wrong: "این فرم تازه نیست یا از سایت دیگری آمده است؛ دوباره باز کنید. اگر پشت پروکسی باز هم همین بود، پروکسی باید سرآیند Host را نگه دارد.",
        "This form is stale or comes from another site; open it again. If that does not help behind a proxy, let the \
         proxy pass the Host header on.";
    protected: "تنها مدیر با حسابی که دسترسی یا نقش دارد کار می‌کند.",
        "Only an admin acts on an account with rights or a role.";
    own_refused: "هیچ‌کس نقش یا دسترسی خودش را تغییر نمی‌دهد.", "Nobody changes their own role or rights.";
    disable: "غیرفعال کردن", "Disable";
    disable_text: "حساب بسته می‌شود، همهٔ نشست‌هایش پایان می‌یابد و نمی‌تواند وارد شود. بازگشت‌پذیر است.",
        "Closes the account, ends all its sessions, and blocks its logins. It can be enabled again.";
    enable: "فعال کردن", "Enable";
    enable_text: "کاربر دوباره می‌تواند وارد شود.", "The user can log in again.";
    set_rights: "تغییر دسترسی", "Change rights";
    set_rights_text: "کارمند به مسیرهای کارکنان و مدیر کل به همه چیز، از جمله این کنسول، راه دارد.",
        "Staff may use the staff routes; a superuser may do everything, including this console.";
    end_session: "پایان دادن", "End";
    end_sessions: "پایان همهٔ نشست‌ها", "End all sessions";
    end_sessions_text: "کاربر در همهٔ دستگاه‌ها خارج می‌شود.", "Logs the user out on every device.";
    end_others: "پایان نشست‌های دیگر", "End my other sessions";
    reset_link: "رمز تازه", "New password";
    reset_link_text: "یک نشانه می‌سازد که کاربر با آن یک بار رمز تازه می‌گذارد؛ ۲۴ ساعت معتبر است.",
        "Makes a token with which the user sets a new password once, within 24 hours.";
    reset_link_made: "این نشانه را به کاربر برسانید؛ دیگر نشان داده نمی‌شود:",
        "Give this token to the user; it is not shown again:";
    why_no_code: "چرا کد نرسید؟", "Why did no code arrive?";
    no_messages: "پیامکی به این شماره ثبت نشده است.", "No message to this number is stored.";
    code_next: "کد بعدی", "Next code";
    code_free: "همین حالا فرستاده می‌شود", "Would be sent at once";
    code_pending: "یک کد معتبر در راه است؛ کد دیگر پس از", "A valid code is out; another one after";
    codes_hour: "کدهای یک ساعت گذشته", "Codes in the last hour";
    codes_day: "کدهای یک روز گذشته", "Codes in the last day";
    cap_gap: "فاصلهٔ میان دو کد؛ مانده", "Time between two codes; left";
    cap_hour: "سقف ساعت این شماره؛ مانده", "The number's cap of an hour; left";
    cap_day: "سقف روز این شماره؛ مانده", "The number's cap of a day; left";
    cap_address: "سقف نشانی؛ مانده", "The address's cap; left";
    cap_prefix: "سقف پیش‌شماره؛ مانده", "The prefix's cap; left";
    cap_total: "سقف همهٔ کدها؛ مانده", "The cap of all codes; left";
    minutes: "دقیقه", "minutes";
    cap_lift: "برداشتن سقف کد", "Lift the caps on codes";
    cap_lift_text: "کدهای شمرده‌شدهٔ این شماره فراموش و کد در راه باطل می‌شود؛ سقف پیش‌شماره، نشانی و کل می‌ماند.",
        "Forgets the codes that count against this number and voids a pending one. The caps of prefix, address and \
         total stay.";
    user_copy: "رونوشت همهٔ داده‌ها", "Export everything";
    user_copy_text: "هرچه از این کاربر نگه داشته شده، در یک فایل زیپ.",
        "Everything stored about this user, as a zip archive.";
    user_copy_waits: "رونوشت دیگری در حال ساخت است یا سقف امروز پر شده است.",
        "Another export is running, or today's limit is reached.";
    erase: "پاک کردن حساب", "Erase";
    erase_text: "حساب، نشست‌ها، پیام‌ها و فایل‌هایش پاک می‌شود؛ سندهای مالی بی‌نام می‌مانند. بازگشت‌پذیر نیست.",
        "Erases the account, its sessions, messages and files; records of money stay. It cannot be undone.";
    forfeit: "موجودی کیف پول", "Balance of the wallet";
    forfeit_no: "اگر موجودی دارد، پاک نکن", "Refuse when there is one";
    forfeit_yes: "موجودی از دست می‌رود", "Give it up";
    erase_rights: "این حساب دسترسی یا نقش دارد؛ نخست آن را بگیرید.",
        "The account has rights or a role; take them first.";
    erase_payment: "این پرداخت باز است:", "This payment is open:";
    erase_held: "این مبلغ مسدود است:", "This amount is held:";
    erase_balance: "در کیف پول مانده است:", "The wallet still holds:";
    credit: "اعتبار", "Credit";
    asked: "زمان پرسش", "Asked at";
    credit_low: "کم یا تمام", "Low or used up";
    send_again: "فرستادن دوباره", "Send again";
    send_again_text: "همین متن با شمارهٔ تازه از نو در صف می‌رود.", "Queues the same text as a new message.";
    send_again_code: "کد یک‌بارمصرف دوباره فرستاده نمی‌شود.", "A one-time code cannot be sent again.";
    send_again_running: "پیامک هنوز در راه است.", "The message is still being sent.";
    send_again_full: "صف یا دیسک پر است.", "The queue or the disk is full.";
    ip: "نشانی IP", "IP address";
    device: "دستگاه", "Device";
    browser: "مرورگر", "Browser";
    last_seen: "آخرین استفاده", "Last seen";
    created: "زمان", "Time";
    current: "همین نشست", "This session";
    rooms: "اتاق‌ها", "Rooms";
    room: "اتاق", "Room";
    room_pair: "دونفره", "Pair";
    room_group: "گروه", "Group";
    room_open: "باز", "Open";
    room_hold: "متوقف", "On hold";
    room_closed: "بسته", "Closed";
    room_status: "باز یا بسته کردن", "Open or close";
    room_status_text: "اتاق بسته پیام تازه نمی‌پذیرد؛ پیام‌هایش خوانده می‌شود.",
        "A closed room accepts no new messages; its messages can be read.";
    room_delete: "پاک کردن اتاق", "Delete the room";
    room_delete_text: "اتاق و همهٔ پیام‌هایش برای همه پاک می‌شود. بازگشت‌پذیر نیست.",
        "Deletes the room and all its messages for everybody. It cannot be undone.";
    room_owner_stays: "مالک اتاق کنار گذاشته نمی‌شود؛ اتاق را ببندید یا پاک کنید.",
        "The owner stays; close or delete the room instead.";
    room_no_member: "این کاربر عضو اتاق نیست.", "That user is not a member of the room.";
    room_denied: "این کار در این اتاق شدنی نیست.", "This cannot be done in this room.";
    room_full: "فهرست مسدودها پر است.", "The list of bans is full.";
    member: "عضو", "Member";
    members: "اعضا", "Members";
    member_asked: "دعوت‌شده", "Asked";
    member_text: "عضوی را کنار می‌گذارد، مسدود یا آزاد می‌کند؛ اعضا آن را می‌بینند.",
        "Removes, bans or unbans a user; the members see it.";
    member_remove: "کنار گذاشتن", "Remove";
    member_ban: "مسدود کردن", "Ban";
    member_unban: "آزاد کردن", "Unban";
    bans: "مسدودها", "Bans";
    owner: "مالک", "Owner";
    messages_count: "پیام‌ها", "Messages";
    messages_read: "خواندن پیام‌ها", "Read the messages";
    messages_read_text: "هر بار خواندن این صفحه در دفتر رویدادها ثبت می‌شود.",
        "Each look at this page is recorded in the audit log.";
    message_delete: "پاک کردن", "Delete";
    organization: "شمارهٔ سازمان", "Organisation";
    organizations: "سازمان‌ها", "Organisations";
    unique_name: "نام یکتا", "Unique name";
    provider: "سرویس‌دهنده", "Provider";
    class: "نوع", "Class";
    otp: "کد یک‌بارمصرف", "Code";
    notice: "اطلاع‌رسانی", "Notice";
    tries: "تلاش‌ها", "Tries";
    cost: "هزینه", "Cost";
    provider_id: "شمارهٔ سرویس‌دهنده", "Provider's id";
    updated: "آخرین تغییر", "Last change";
    text: "متن", "Text";
    hidden: "پنهان (کد یک‌بارمصرف)", "Hidden (one-time code)";
    order: "شمارهٔ سفارش", "Order";
    authority: "شناسهٔ درگاه", "Authority";
    receipt: "رسید", "Receipt";
    gateway: "درگاه", "Gateway";
    amount: "مبلغ", "Amount";
    amount_min: "کمینهٔ مبلغ", "At least";
    amount_max: "بیشینهٔ مبلغ", "At most";
    refunded: "بازگردانده", "Refunded";
    totals: "جمع", "Totals";
    totals_show: "جمع همهٔ یافته‌ها", "Sum up everything found";
    totals_cut: "بیش از این یافته شد؛ جستجو را تنگ‌تر کنید.", "There is more; narrow the search.";
    count: "تعداد", "Count";
    paid_count: "پرداخت‌شده", "Paid";
    paid_amount: "مبلغ پرداخت‌شده", "Paid amount";
    paid_at: "زمان پرداخت", "Paid at";
    card: "کارت", "Card";
    mode: "مقصد", "Credited to";
    mode_wallet: "کیف پول", "The wallet";
    mode_order: "سفارش", "The order";
    ask_bank: "پرسش از بانک", "Ask the bank now";
    ask_bank_text: "از درگاه می‌پرسد که پول رسیده است یا نه.", "Asks the gateway whether the money arrived.";
    refund: "بازپرداخت", "Refund";
    refund_text: "پول به مقصد انتخاب‌شده برمی‌گردد و در دفتر ثبت می‌شود. بازگشت‌پذیر نیست.",
        "Returns the money to the selected place and books it. It cannot be undone.";
    refund_left: "قابل بازپرداخت", "Left to refund";
    refund_to: "به", "To";
    to_wallet: "کیف پول", "Wallet";
    to_payer: "کارت پرداخت‌کننده، از راه درگاه", "The payer's card, by the gateway";
    to_outside: "بیرون از دروازه پرداخت شد", "Paid outside the gateway";
    refund_amount: "مبلغ (خالی: همه)", "Amount (empty: everything left)";
    preview: "پیش‌نمایش", "Preview";
    preview_text: "هنوز چیزی انجام نشده است.", "Nothing has happened yet.";
    refunds: "بازپرداخت‌ها", "Refunds";
    reversals: "برگشت‌های معطل", "Stuck reversals";
    decide: "تصمیم", "Decide";
    decide_text: "درگاه این برگشت را نپذیرفت. یکی را انتخاب کنید.",
        "The gateway refused this reversal. Select what holds.";
    decide_retry: "دوباره از درگاه بخواه", "Ask the gateway again";
    decide_undo: "بازپرداخت را برگردان؛ پرداخت دوباره پرداخت‌شده است", "Undo the refund; the payment is paid again";
    decide_wallet: "به کیف پول بده", "Credit the wallet";
    decide_outside: "پرداخت‌کننده از راه دیگری گرفت", "The payer got it another way";
    not_paid: "تنها پرداخت موفق بازگردانده می‌شود.", "Only a paid payment can be refunded.";
    too_much: "بیش از مانده است.", "More than is left.";
    overdraft: "موجودی کافی نیست.", "The wallet does not hold enough.";
    in_wallet: "این پرداخت به کیف پول رفت؛ مقصد دیگری انتخاب کنید.",
        "This payment was credited to the wallet; select another place.";
    not_whole: "درگاه تنها همهٔ پرداخت را برمی‌گرداند.", "A gateway reverses a payment as a whole or not at all.";
    not_reversible: "درگاه این پرداخت را برنمی‌گرداند.", "The gateway cannot reverse this payment.";
    imported: "این پرداخت وارد شده است؛ در خود درگاه بازگردانید.", "This payment was imported: refund it at its gateway.";
    too_large: "عدد بزرگ‌تر از اندازه است.", "The number is too large.";
    reversal_open: "هنوز از درگاه پرسیده می‌شود.", "The gateway is still being asked.";
    balance: "موجودی", "Balance";
    available: "در دسترس", "Available";
    held: "مسدود", "Held";
    entries: "گردش", "Entries";
    kind: "رویداد", "Kind";
    balance_after: "موجودی پس از آن", "Balance after";
    holds: "مبلغ‌های مسدود", "Open holds";
    expires: "پایان", "Expires";
    description: "شرح", "Description";
    correct: "اصلاح کیف پول", "Correct the wallet";
    correct_text: "یک سند متوازن با دلیل در دفتر می‌نویسد.", "Writes a balanced posting with a reason.";
    direction: "جهت", "Direction";
    direction_in: "افزودن", "Add";
    direction_out: "کم کردن", "Take";
    event: "رویداد", "Event";
    deliveries: "تحویل‌ها", "Deliveries";
    dead_only: "تنها مرده‌ها", "Dead only";
    replay: "تحویل دوباره", "Replay";
    replay_dead: "تحویل دوبارهٔ همهٔ مرده‌ها", "Replay all dead events";
    test_event: "رویداد آزمایشی", "Send a test event";
    endpoint: "مقصد", "Endpoint";
    actor: "انجام‌دهنده", "Actor";
    subject: "موضوع", "Subject";
    detail: "جزئیات", "Detail";
    change: "تغییر", "Change";
    scope: "دامنه", "Scope";
    daily_cap: "سقف روزانه", "Daily cap";
    create: "ساختن", "Create";
    key_made: "این کلید را اکنون بردارید؛ دیگر نشان داده نمی‌شود:", "Copy this key now; it is not shown again:";
    key_text: "کلید تازه می‌سازد.", "Makes a new key.";
    key_wrong: "نام یا سقف پذیرفته نشد.", "The name or the cap is not accepted.";
    revoke: "باطل کردن", "Revoke";
    revoke_text: "درخواست بعدی با این کلید رد می‌شود.", "The key's next request is refused.";
    valid: "معتبر", "Valid";
    revoked: "باطل", "Revoked";
    role: "نقش", "Role";
    role_none: "بی‌نقش", "None";
    role_viewer: "بیننده", "Viewer";
    role_support: "پشتیبانی", "Support";
    role_finance: "مالی", "Finance";
    role_admin: "مدیر", "Admin";
    set_role: "تعیین نقش", "Set a role";
    set_role_text: "نقش را می‌دهد یا می‌گیرد؛ نشست‌های کنسول آن حساب پایان می‌یابد.",
        "Gives or takes the role; the account's console sessions end.";
    factor: "عامل دوم", "Second factor";
    factor_none: "ندارد", "Not set";
    factor_setup: "برپا کردن عامل دوم", "Set up a second factor";
    factor_text: "این رمزینه را با برنامهٔ احراز هویت بخوانید یا راز را بنویسید، سپس کد شش‌رقمی را وارد کنید.",
        "Scan this code with an authenticator or type the secret, then enter the six digits.";
    factor_secret: "راز", "Secret";
    factor_code: "کد شش‌رقمی", "Six-digit code";
    factor_wrong: "کد درست نیست.", "The code is wrong.";
    factor_exists: "عامل دوم برقرار است؛ برای تعویض با پیوند یک‌باره وارد شوید.",
        "A second factor is set; log in by a one-time link to replace it.";
    factor_missing: "هنوز عامل دوم ندارید؛ بی آن تنها با پیوند یک‌باره وارد می‌شوید.",
        "You have no second factor yet; without one only a one-time link opens the console.";
    factor_reset: "برداشتن عامل دوم", "Remove the second factor";
    factor_reset_text: "نشست‌های کنسول آن اپراتور پایان می‌یابد و برای ورود پیوند یک‌باره می‌خواهد.",
        "Ends the operator's console sessions; the next login needs a one-time link.";
    recovery: "کدهای بازیابی", "Recovery codes";
    recovery_text: "این‌ها را نگه دارید؛ هر کدام یک بار کار می‌کند و دیگر نشان داده نمی‌شوند.",
        "Keep these; each works once, and they are not shown again.";
    save: "ذخیره", "Save";
    version: "نسخه", "Version";
    store: "انبار داده", "Store";
    ok: "سالم", "Healthy";
    not_ok: "ناسالم", "Failing";
    config_error: "خطای پیکربندی", "Refused configuration";
    restart_keys: "منتظر راه‌اندازی دوباره", "Waits for a restart";
    providers: "سرویس‌دهنده‌ها و افزونه‌ها", "Providers and plugins";
    plugin: "افزونه", "Plugin";
    circuit: "مدار", "Circuit";
    queue: "صف", "Queue";
    open_payments: "پرداخت‌های باز", "Open payments";
    sockets: "سوکت‌های باز", "Open sockets";
    calls: "فراخوانی", "Calls";
    errors: "خطا", "Errors";
    config: "پیکربندی", "Configuration";
    config_file: "فایل", "File";
    config_edit: "ویرایش", "Edit";
    config_edit_text: "نخست بررسی می‌شود و چیزی تغییر نمی‌کند؛ رازهای پنهان همان که هستند می‌مانند.",
        "The text is checked first and nothing changes; hidden secrets stay as they are.";
    config_check: "بررسی", "Check";
    config_accepted: "پذیرفته است؛ هنوز چیزی تغییر نکرده است.", "Accepted; nothing has changed yet.";
    config_notes: "هشدارها", "Warnings";
    config_apply: "به کار بردن", "Apply";
    config_apply_text: "فایل را می‌نویسد؛ اگر به کار نیفتد، فایل پیشین برمی‌گردد.",
        "Writes the file; when it does not come to serve, the file of before comes back.";
    config_back: "بازگشت", "Roll back";
    config_back_text: "متنی که آخرین ویرایش این کنسول جایگزین کرد.",
        "The text that the last edit at this console replaced.";
    config_stale: "فایل از آن پس تغییر کرده است؛ دوباره باز کنید.", "The file changed meanwhile; open it again.";
    order_of_messages: "ترتیب پیامک", "Order of messages";
    interface: "نسخهٔ رابط", "Interface";
    digest: "چکیده", "Digest";
    generation: "نسل", "Generation";
    reloads: "تعویض‌ها", "Reloads";
    reload_failures: "تعویض‌های ردشده", "Refused reloads";
    compile_ms: "زمان کامپایل (میلی‌ثانیه)", "Compiled in ms";
    since: "از", "Since";
    settings: "تنظیمات", "Settings";
    set: "تنظیم شده", "Set";
    move_title: "تغییر ترتیب", "Move in the order";
    move_text: "فایل پیکربندی را با یادداشت‌هایش می‌نویسد و به کار می‌برد.",
        "Writes the configuration file, keeps its comments, and applies it.";
    move_earlier: "یک جا زودتر", "One place earlier";
    move_later: "یک جا دیرتر", "One place later";
    test_send: "پیامک آزمایشی", "Test message";
    test_send_text: "از همین سرویس‌دهنده می‌فرستد؛ هزینه دارد.",
        "Sends by this provider; it costs what a message costs.";
    test_text_wrong: "متنی تا ۱۶۰ نویسه بنویسید.", "Write a text of at most 160 characters.";
    backups: "پشتیبان‌ها", "Backups";
    backup_write: "پشتیبان بگیر", "Back up now";
    backup_write_text: "انبار داده، کلید، افزونه‌ها و فایل‌ها را در پوشه‌ای تازه می‌نویسد.",
        "Writes the store, the key, the plugins and the files into a new folder.";
    backup_verify: "بررسی پشتیبان", "Verify a backup";
    backup_verify_text: "هر فایل را با فهرست پشتیبان می‌سنجد.", "Compares every file with the backup's list.";
    backup_whole: "پشتیبان سالم است", "The backup is whole";
    folder: "پوشه", "Folder";
    folder_wrong: "نشانی کامل پوشه را بنویسید، مانند /backup/1.", "Write an absolute path, such as /backup/1.";
    files: "فایل", "files";
    bytes: "بایت", "bytes";
    toman: "تومان", "toman";
    rial: "ریال", "rial";
    details: "مشخصات", "Details";
    last_error: "آخرین خطا", "Last error";
    endpoints: "گیرنده‌ها", "Endpoints";
    delivering: "در حال رساندن", "Delivering";
    paused: "نگه داشته", "Paused";
    pause: "نگه داشتن", "Pause";
    pause_text: "رویدادهای این گیرنده می‌مانند و فرستاده نمی‌شوند تا ادامه داده شود؛ چیزی گم نمی‌شود، مگر آنکه از مدت نگهداری بگذرد.",
        "Events for this endpoint wait until it is resumed. Nothing is lost while they are kept.";
    resume: "ادامه دادن", "Resume";
    resume_text: "رویدادهایی که مانده‌اند به ترتیب فرستاده می‌شوند.", "The waiting events are delivered in their order.";
    correction: "اصلاح در انتظار", "Waiting correction";
    corrections_waiting: "اصلاح‌های در انتظار نفر دوم", "Corrections that wait for a second operator";
    corrections_full: "اصلاح‌های زیادی در انتظار است.", "Too many corrections wait.";
    correction_waits: "این اصلاح هنوز انجام نشده است. اپراتور دیگری باید آن را تأیید کند.",
        "Nothing is posted yet. Another operator has to confirm this correction.";
    correction_confirm: "تأیید اصلاح", "Confirm the correction";
    correction_confirm_text: "مبلغ در دفتر کل ثبت می‌شود. شمارهٔ کاربر را بنویسید.",
        "The amount is posted to the ledger. Type the number of the user.";
    correction_withdraw: "پس گرفتن", "Withdraw";
    correction_own: "درخواست‌کننده نمی‌تواند تأیید کند.", "Who asked for it cannot confirm it.";
    ledger: "دفتر کل", "Ledger";
    ledger_verify: "بازشماری دفتر کل", "Verify the ledger";
    ledger_verify_text: "از همه چیز در یک لحظه رونوشت برمی‌دارد و همهٔ ثبت‌ها و مانده‌ها را از نو می‌شمارد. دروازه در این میان کار می‌کند؛ به اندازهٔ دو برابر پایگاه داده جای خالی لازم است.",
        "Copies the store as of one moment and recomputes every posting and balance. The gateway serves meanwhile; twice the store's size must be free on its disk.";
    ledger_never: "هنوز بازشماری نشده است", "Not verified since the start";
    ledger_copying: "در حال رونوشت", "Copying";
    ledger_reading: "در حال خواندن رونوشت", "Reading the copy";
    ledger_recomputing: "در حال شمارش", "Recomputing";
    ledger_well: "درست است", "Verified";
    postings: "ثبت‌ها", "Postings";
    accounts: "حساب‌ها", "Accounts";
    users_total: "موجودی همهٔ کاربران", "Held by all users";
    last_hash: "آخرین درهم‌ساز", "Last hash";
    seconds: "ثانیه", "Seconds";
    doctor: "وارسی", "Doctor";
    attention: "نیازمند رسیدگی", "Needs attention";
    check: "وارسی", "Check";
    found: "یافته", "Found";
    cure: "چاره", "Cure";
    warning: "هشدار", "Warning";
    check_disk: "دیسک", "Disk";
    check_callbacks: "نشانی بازگشت", "Callbacks";
    check_files: "پرونده‌های باز", "Open files";
    check_clock: "ساعت", "Clock";
    check_permissions: "اجازهٔ پرونده‌ها", "Permissions";
    check_keys: "کلید", "Key";
    cure_store: "گزارش را بخوانید؛ جا باز کنید یا دروازه را از نو راه بیندازید و اگر راه نیفتاد پشتیبان را برگردانید.",
        "Read the log; free disk space or restart the gateway, and restore a backup if it does not start.";
    cure_disk: "روی دیسک پوشهٔ داده جا باز کنید یا پوشه را به دیسک بزرگ‌تری ببرید.",
        "Free space on the disk of the data folder, or move the folder to a larger disk.";
    cure_backup: "هر روز پشتیبان بگیرید و آن را روی دستگاه دیگری نگه دارید.",
        "Write a backup every day and keep it on another machine.";
    cure_config: "خطی را که نام برده شده درست کنید، یا در صفحهٔ پیکربندی بازگردید.",
        "Correct the named line, or roll back on the configuration page.";
    cure_restart: "در وقت مناسب دروازه را از نو راه بیندازید.", "Restart the gateway when its users can bear it.";
    cure_providers: "صفحهٔ فراهم‌کننده را باز کنید و آخرین خطا، تنظیم‌ها و مؤلفه را ببینید.",
        "Open the provider's page, read its last error, and check its settings and component.";
    cure_callbacks: "نشانی عمومی را در server.public_url یا payment.callback_url بنویسید.",
        "Set server.public_url, or payment.callback_url.";
    cure_files: "سقف پرونده‌های باز (LimitNOFILE) را بالا ببرید یا کلیدهای نام‌برده را کم کنید.",
        "Raise the limit of open files (LimitNOFILE), or lower the named keys.";
    cure_clock: "ساعت دستگاه را با NTP هماهنگ کنید.", "Synchronise the machine's clock by NTP.";
    cure_permissions: "روی مسیر نام‌برده chmod -R go= اجرا کنید، یا با chown -R آن را به کاربر درگاه برگردانید.",
        "Run chmod -R go= on the named path, or give it back to the gateway's user (chown -R).";
    cure_uploads: "دیسک data/uploads را خالی کنید، یا بخش [files.s3] را درست کنید و باکت را برگردانید؛ تا آن زمان فایل‌ها با ۵۰۳ پاسخ داده می‌شوند.",
        "Free the disk of data/uploads, or correct [files.s3] and bring the bucket back; until then files answer 503.";
    cure_keys: "رونوشتی از کلید را کنار پشتیبان‌ها نگه دارید.", "Keep a copy of the key with the backups.";
    cure_webhooks: "وقتی گیرنده پاسخ داد رویدادهای مرده را دوباره بفرستید و گیرنده‌های نگه‌داشته را ادامه دهید.",
        "Replay the dead events once their endpoint answers, and resume paused endpoints.";
    cure_money: "در صفحهٔ پرداخت‌ها دربارهٔ برگشت‌های نام‌برده تصمیم بگیرید.", "Decide the named reversals on the payments page.";
    cure_operators: "در «حساب من» عامل دوم بگذارید، یا نقش را از کسی که به آن نیاز ندارد بگیرید.",
        "Set up a second factor under My account, or take the role from who does not need it.";
    rename: "تغییر نام", "Rename";
    rename_text: "نام یکتا در نشانی‌ها می‌آید؛ پیوندهای پیشین دیگر کار نمی‌کنند.",
        "The unique name is part of addresses; earlier links stop working.";
    organization_remove: "حذف سازمان", "Remove the organisation";
    organization_remove_text: "سازمان بدون اتاق برای همیشه حذف می‌شود. نام یکتا را بنویسید.",
        "Removes an organisation without rooms for good. Type its unique name.";
    organization_has_rooms: "نخست اتاق‌های آن را ببندید یا حذف کنید. شمار اتاق‌ها:",
        "Delete its rooms first. Rooms:";
    uname_wrong: "این نام یکتا نادرست است یا گرفته شده است.", "This unique name is wrong or taken.";
    name_wrong: "این نام نادرست است.", "This name is wrong.";
    keys: "کلیدهای صفحه‌کلید", "Keys";
    keys_search: "جستجو", "Search";
    keys_rows: "سطر بعد و پیش", "Next and previous row";
    keys_open: "باز کردن سطر", "Open the row";
    keys_help: "این راهنما", "This help";
    close: "بستن", "Close";
    components: "مؤلفه‌ها", "Components";
    component_file: "پروندهٔ مؤلفه (wasm)", "Component file (wasm)";
    component_upload: "بارگذاری مؤلفه", "Upload a component";
    component_upload_text: "مؤلفه آزموده می‌شود و جای همنام خود را می‌گیرد. اگر به کار نیفتد، پیشین برمی‌گردد و در این میان نیز کار می‌کند.",
        "The component is checked and replaces the one of its name. If it does not come to serve, the one before is put back, and it serves meanwhile.";
    component_back: "بازگشت به مؤلفهٔ پیشین", "Roll a component back";
    component_back_text: "مؤلفهٔ پیشین دوباره به کار می‌افتد و کنونی کنار گذاشته می‌شود.",
        "The component before serves again, and the present one is kept in its place.";
    component_before: "پیشین نگه داشته شده", "One before is kept";
    component_missing: "یک پرونده انتخاب کنید.", "Choose a file.";
    filters_saved: "صافی‌های ذخیره‌شده", "Saved filters";
    filter_name: "نام این صافی", "Name of this filter";
    filter_save: "ذخیرهٔ صافی کنونی", "Save the present filter";
    filter_remove: "حذف", "Remove";
    filter_wrong: "نام ۱ تا ۴۰ نویسه دارد و هر اپراتور ۵۰ صافی؛ نشانی نباید بلند باشد.",
        "A name has 1 to 40 characters, an operator 50 filters, and an address must not be long.";
}

/// A language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Persian,
    English,
}

impl Language {
    /// The language of a code; Persian for every other text.
    pub(crate) fn of(code: &str) -> Language {
        if code == "en" { Language::English } else { Language::Persian }
    }

    pub(crate) fn code(self) -> &'static str {
        match self {
            Language::Persian => "fa",
            Language::English => "en",
        }
    }

    pub(crate) fn direction(self) -> &'static str {
        match self {
            Language::Persian => "rtl",
            Language::English => "ltr",
        }
    }

    pub(crate) fn other(self) -> (&'static str, &'static str) {
        match self {
            Language::Persian => ("en", "English"),
            Language::English => ("fa", "فارسی"),
        }
    }

    pub(crate) fn words(self) -> &'static Words {
        match self {
            Language::Persian => &FA,
            Language::English => &EN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn every_text_is_there_in_its_script() {
        let persian = |text: &str| text.chars().any(|one| ('\u{600}'..='\u{6ff}').contains(&one));
        for (key, fa, en) in ALL {
            assert!(persian(fa), "{key}: {fa}");
            assert!(!en.is_empty() && en.is_ascii(), "{key}: {en}");
            assert_eq!(fa.ends_with('.'), en.ends_with('.'), "{key}: {fa} / {en}");
        }
    }
}
