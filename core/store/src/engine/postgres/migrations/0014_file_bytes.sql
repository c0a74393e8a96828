-- Files count with their texts, and each with a fixed part for its record and its place. Sums of before are taken anew.

update stored_file_quota q set bytes = coalesce(
    (select sum(f.bytes + coalesce(f.thumbnail_bytes, 0) + coalesce(octet_length(f.text), 0) + 4096)
     from stored_file f where f.uploader = q.uploader), 0);
update stored_file_total set bytes = coalesce((select sum(bytes) from stored_file_quota), 0);

comment on table stored_file_quota is 'What the files of each user hold: bytes, thumbnails, texts and 4096 for each.';
comment on table stored_file_total is 'What all files hold: bytes, thumbnails, texts and 4096 for each.';
