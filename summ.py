import json,struct,sys,glob,os
from collections import Counter
def load(p):
    b=open(p,'rb').read(); n=struct.unpack('<Q',b[:8])[0]; return json.loads(b[8:8+n])
for d in sys.argv[1:]:
    for p in sorted(glob.glob(f'/work/shared/conformance/cases/{d}/*.safetensors')):
        h=load(p); cs=json.loads(h['__metadata__']['cases'])
        kinds=Counter((c['kind'],c['dtype']) for c in cs)
        nargs=Counter(len(c.get('args',[])) for c in cs); kw=Counter(k for c in cs for k in c.get('kwargs',{}))
        var=Counter(c.get('variant') for c in cs)
        print(os.path.basename(p)[:-12],len(cs),dict((f'{k[0]}/{k[1]}',v) for k,v in kinds.items()),'nargs',dict(nargs),'kw',dict(kw), 'var',dict(var) if len(var)>1 else '')
