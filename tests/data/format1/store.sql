BEGIN TRANSACTION;
CREATE TABLE chunks (
	seq INTEGER NOT NULL, 
	document INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	start INTEGER NOT NULL, 
	"end" INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	metadata TEXT NOT NULL, 
	"key" BLOB NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "chunks" VALUES(1,6,'r0:0-15',0,15,'Record of zinc.','{"format": "jsonl", "lab": "north", "year": 1999}',X'CF483BC42F932F8E94E76A94C80DAC9C');
INSERT INTO "chunks" VALUES(2,7,'r1:0-14',0,14,'Record of tin.','{"format": "jsonl", "lab": "north", "year": 1999}',X'A4D8756D4BEC570F87FF342E4FBE37B5');
INSERT INTO "chunks" VALUES(3,8,'one.txt:0-27',0,27,'Iron melts at 1538 degrees.','{"format": "text", "lab": "north", "year": 1999}',X'EE5A8A5BE0800EF3459A78DF9D5DA287');
INSERT INTO "chunks" VALUES(4,9,'sub/two.md:0-39',0,39,'# Copper

Copper melts at 1085 degrees.','{"format": "markdown", "headers": ["Copper"], "lab": "north", "year": 1999}',X'010FC496885DF23EC9A46145F81C001E');
INSERT INTO "chunks" VALUES(5,13,'breaks.json:0-12',0,12,'It was good.','{"format": "json"}',X'64BE7FD700CB387F42B59E664402071C');
INSERT INTO "chunks" VALUES(6,14,'changes.txt:0-18',0,18,'The first version.','{"format": "text"}',X'533AE0DCDE72384A2AC4C04AC8007A7C');
INSERT INTO "chunks" VALUES(7,15,'Fe:0-17',0,17,'id: Fe
name: iron','{"format": "csv", "name": "iron"}',X'94EF6487849EC70073B2623030A3D1DE');
INSERT INTO "chunks" VALUES(8,16,'Cu:0-19',0,19,'id: Cu
name: copper','{"format": "csv", "name": "copper"}',X'1EE71CD8E19170B0AA76E95021EB17C3');
INSERT INTO "chunks" VALUES(9,19,'note.txt:0-26',0,26,'A note whose file is gone.','{"format": "text"}',X'CBF7E783721E5C484E8DBAB2758C4648');
INSERT INTO "chunks" VALUES(10,20,'x1:0-5',0,5,'a row','{"format": "csv"}',X'06587EFCD09D1EB638BCEF3E0B18DE0B');
INSERT INTO "chunks" VALUES(11,21,'memo:0-19',0,19,'A memo from memory.','{"n": 1}',X'1CC7B52B7FE8DBCDF61E314DD7C4A128');
INSERT INTO "chunks" VALUES(12,22,'tmp:0-8',0,8,'Deleted.','{}',X'E395F490B64EA699A23BCB9697DE8E3C');
CREATE TABLE documents (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	file TEXT NOT NULL, 
	source TEXT NOT NULL, 
	title TEXT NOT NULL, 
	text TEXT NOT NULL, 
	metadata TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	state TEXT NOT NULL, 
	reason TEXT, 
	job INTEGER NOT NULL, 
	born INTEGER, 
	died INTEGER, 
	PRIMARY KEY (seq)
);
INSERT INTO "documents" VALUES(5,'bad.json','bad.json','bad.json','','','{}','cae66941d9efbd404e4d88758ea67670','failed','bad.json: broken: it is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)',1,NULL,NULL);
INSERT INTO "documents" VALUES(6,'r0','data.jsonl','data.jsonl','','Record of zinc.','{"format": "jsonl", "lab": "north", "year": 1999}','cf483bc42f932f8e94e76a94c80dac9c','indexed',NULL,1,1,NULL);
INSERT INTO "documents" VALUES(7,'r1','data.jsonl','data.jsonl','','Record of tin.','{"format": "jsonl", "lab": "north", "year": 1999}','a4d8756d4bec570f87ff342e4fbe37b5','indexed',NULL,1,1,NULL);
INSERT INTO "documents" VALUES(8,'one.txt','one.txt','one.txt','','Iron melts at 1538 degrees.','{"format": "text", "lab": "north", "year": 1999}','ee5a8a5be0800ef3459a78df9d5da287','indexed',NULL,1,1,NULL);
INSERT INTO "documents" VALUES(9,'sub/two.md','sub/two.md','sub/two.md','Copper','# Copper

Copper melts at 1085 degrees.
','{"format": "markdown", "lab": "north", "year": 1999}','d0628a9dca82675d99a3336ed17232cd','indexed',NULL,1,1,NULL);
INSERT INTO "documents" VALUES(13,'breaks.json','breaks.json','breaks.json','','It was good.','{"format": "json"}','64be7fd700cb387f42b59e664402071c','indexed',NULL,2,2,NULL);
INSERT INTO "documents" VALUES(14,'changes.txt','changes.txt','changes.txt','','The first version.','{"format": "text"}','533ae0dcde72384a2ac4c04ac8007a7c','indexed',NULL,2,2,NULL);
INSERT INTO "documents" VALUES(15,'Fe','t.csv','t.csv','','id: Fe
name: iron','{"format": "csv", "name": "iron"}','94ef6487849ec70073b2623030a3d1de','indexed',NULL,2,2,NULL);
INSERT INTO "documents" VALUES(16,'Cu','t.csv','t.csv','','id: Cu
name: copper','{"format": "csv", "name": "copper"}','1ee71cd8e19170b0aa76e95021eb17c3','indexed',NULL,2,2,NULL);
INSERT INTO "documents" VALUES(19,'note.txt','note.txt','note.txt','','A note whose file is gone.','{"format": "text"}','cbf7e783721e5c484e8dbab2758c4648','indexed',NULL,3,3,NULL);
INSERT INTO "documents" VALUES(20,'x1','old.csv','old.csv','','a row','{"format": "csv"}','06587efcd09d1eb638bcef3e0b18de0b','indexed',NULL,3,3,NULL);
INSERT INTO "documents" VALUES(21,'memo','','desk','Memo','A memo from memory.','{"n": 1}','fdfaa7fd042fe0be231a8dd526836706','indexed',NULL,4,4,NULL);
INSERT INTO "documents" VALUES(22,'tmp','','tmp','','Deleted.','{}','e395f490b64ea699a23bcb9697de8e3c','indexed',NULL,4,4,5);
CREATE TABLE file_seals (
	id TEXT NOT NULL, 
	digest BLOB NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "file_seals" VALUES('bad.json',X'C11528FCC59332721D77A4122FB2B262');
INSERT INTO "file_seals" VALUES('data.jsonl',X'B23847180B38084AB179971A94AABE92');
INSERT INTO "file_seals" VALUES('one.txt',X'259CA9A38066D791D3C10E1D312F944D');
INSERT INTO "file_seals" VALUES('sub/two.md',X'3E49884A6501AB2A1C6565B74CBE67F9');
INSERT INTO "file_seals" VALUES('breaks.json',X'9930B329219BE2F126EE391378541154');
INSERT INTO "file_seals" VALUES('changes.txt',X'47282D61D170C4C42EA7CCE691551FE2');
INSERT INTO "file_seals" VALUES('t.csv',X'5D49535092D2E573F291706D14CBE1E1');
INSERT INTO "file_seals" VALUES('note.txt',X'6B14374573CC1261F6E46A1C40976D7A');
INSERT INTO "file_seals" VALUES('old.csv',X'097ABF6A0D9985190EA393239C02FD9B');
CREATE TABLE files (
	id TEXT NOT NULL, 
	root TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "files" VALUES('bad.json','ROOT/docs','');
INSERT INTO "files" VALUES('data.jsonl','ROOT/docs','1c1a585bc335cecffd5c1ea625dfbb47');
INSERT INTO "files" VALUES('one.txt','ROOT/docs','650741cbbfd82d7feed9ba9aaecc9239');
INSERT INTO "files" VALUES('sub/two.md','ROOT/docs','581133624ac51cda8cbb8c7d2625c869');
INSERT INTO "files" VALUES('breaks.json','ROOT/plain','85ef2c76ad120776a55e6f24c33daa7b');
INSERT INTO "files" VALUES('changes.txt','ROOT/plain','93a7f967998cd9f30d53a25c08696d29');
INSERT INTO "files" VALUES('t.csv','ROOT/plain','c924f4edd9caae4bb894a13243e23205');
INSERT INTO "files" VALUES('note.txt','ROOT/gone','d60e705944b1e64dbda7d7f2870ef035');
INSERT INTO "files" VALUES('old.csv','ROOT/gone','5e2d2c539cc722cde84b810a713fd3aa');
CREATE TABLE jobs (
	id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	state TEXT NOT NULL, 
	started FLOAT NOT NULL, 
	finished FLOAT, 
	n_embedded INTEGER NOT NULL, 
	n_reused INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "jobs" VALUES(1,'add','done',1.79606209353050875663e+09,1.7960620937621917725e+09,4,0);
INSERT INTO "jobs" VALUES(2,'add','done',1.79606209384332656865e+09,1.79606209399024081231e+09,4,0);
INSERT INTO "jobs" VALUES(3,'add','done',1.79606209404935598375e+09,1.79606209423789763444e+09,2,0);
INSERT INTO "jobs" VALUES(4,'add','done',1.79606209428254103661e+09,1.79606209440479683879e+09,2,0);
CREATE TABLE ledger (
	fingerprint TEXT NOT NULL, 
	role TEXT NOT NULL, 
	"key" BLOB NOT NULL, 
	"row" INTEGER NOT NULL, 
	checksum INTEGER NOT NULL, 
	PRIMARY KEY (fingerprint, role, "key")
)
 WITHOUT ROWID;
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'010FC496885DF23EC9A46145F81C001E',3,710827464);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'06587EFCD09D1EB638BCEF3E0B18DE0B',9,2042875910);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'1CC7B52B7FE8DBCDF61E314DD7C4A128',10,3073649510);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'1EE71CD8E19170B0AA76E95021EB17C3',7,2352639025);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'533AE0DCDE72384A2AC4C04AC8007A7C',5,34873950);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'64BE7FD700CB387F42B59E664402071C',4,3693780494);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'94EF6487849EC70073B2623030A3D1DE',6,3837059685);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'A4D8756D4BEC570F87FF342E4FBE37B5',1,1896089041);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'CBF7E783721E5C484E8DBAB2758C4648',8,4255753988);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'CF483BC42F932F8E94E76A94C80DAC9C',0,220305385);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'E395F490B64EA699A23BCB9697DE8E3C',11,2785143172);
INSERT INTO "ledger" VALUES('71191d5455da15260491b7b96fc2e790','passage',X'EE5A8A5BE0800EF3459A78DF9D5DA287',2,1707594756);
CREATE TABLE losses (
	id INTEGER NOT NULL, 
	job INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	what TEXT NOT NULL, 
	lost TEXT NOT NULL, 
	kept TEXT NOT NULL, 
	why TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "losses" VALUES(1,1,'documents','bad.json','the document','nothing','bad.json: broken: it is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)');
CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('description','{
 "chunker": {
  "max_tokens": 50,
  "overlap": 0,
  "segmenter": "rules-1"
 },
 "digest": "31e39e661e6c25c7d657135d8c5e061d",
 "embedder": {
  "dim": 16,
  "fingerprint": "71191d5455da15260491b7b96fc2e790",
  "name": "hash-16"
 },
 "format": 1,
 "settings": {
  "b": 0.5,
  "chunk_tokens": 50,
  "embedder": "hash-16",
  "index": "exact",
  "k1": 1.5,
  "language": "english",
  "overlap": 0
 }
}');
INSERT INTO "meta" VALUES('next_document','23');
INSERT INTO "meta" VALUES('next_chunk','13');
INSERT INTO "meta" VALUES('ledger:71191d5455da15260491b7b96fc2e790:passage','12');
INSERT INTO "meta" VALUES('generation','5');
CREATE TABLE seals (
	document INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	PRIMARY KEY (document)
);
INSERT INTO "seals" VALUES(5,X'9AEF0F3C3CB6DFEFE0AB38C5D506DF65');
INSERT INTO "seals" VALUES(6,X'71F4AC2C728D36429C441FE58FD55492');
INSERT INTO "seals" VALUES(7,X'DCE6A6763408AE59878ABA8E6782FF20');
INSERT INTO "seals" VALUES(8,X'C439BCCC119A41AE1547AD642984473D');
INSERT INTO "seals" VALUES(9,X'CBD9B356F40F18EA8205E5B80FC7872A');
INSERT INTO "seals" VALUES(13,X'F32AE33E1DD88B9E865B80FF70759241');
INSERT INTO "seals" VALUES(14,X'6502B69828002C2769D7617EEDF27233');
INSERT INTO "seals" VALUES(15,X'400BE1D32CB5E76D76D356F7D3D6D0D2');
INSERT INTO "seals" VALUES(16,X'CE7BC0FD1071D0CA042AB0D80701645F');
INSERT INTO "seals" VALUES(19,X'3F711A107A4237B60C2DBC4BF524AC6E');
INSERT INTO "seals" VALUES(20,X'7BA93EF145CAFC13D0F0CB7BB63BA8AD');
INSERT INTO "seals" VALUES(21,X'CE51AA90B3016BF643FAB0E43F599728');
CREATE TABLE segments (
	digest TEXT NOT NULL, 
	n_rows INTEGER NOT NULL, 
	born INTEGER NOT NULL, 
	died INTEGER, 
	PRIMARY KEY (digest)
);
INSERT INTO "segments" VALUES('23172b9b49d0ca0b075d6bd6108846bd',4,1,NULL);
INSERT INTO "segments" VALUES('5216fa68682c9f7604f5098609718abf',4,2,NULL);
INSERT INTO "segments" VALUES('9914c7a76e7b72fd82cc2ed29ffec58a',2,3,NULL);
INSERT INTO "segments" VALUES('ea30b8b52548a4ddbc41a603bda7e615',2,4,NULL);
CREATE INDEX chunks_document ON chunks (document);
CREATE INDEX documents_died ON documents (died) WHERE died IS NOT NULL;
CREATE INDEX documents_file ON documents (file);
CREATE INDEX documents_id ON documents (id);
CREATE INDEX documents_state ON documents (state, job);
COMMIT;
