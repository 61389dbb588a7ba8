package wire
import ("testing";"bytes")
func BenchmarkTmpIndexByte(b *testing.B){
 h:=[]byte(clientHead)
 for b.Loop(){ n:=0; for n<len(h) { n+=bytes.IndexByte(h[n:],'\n')+1 } }
}
func BenchmarkTmpCount(b *testing.B){
 h:=[]byte(clientHead)
 for b.Loop(){ bytes.Count(h,[]byte{'\n'}) }
}
func BenchmarkTmpIndex4(b *testing.B){
 h:=[]byte(clientHead)
 for b.Loop(){ bytes.Index(h,[]byte("\r\n\r\n")) }
}
func BenchmarkTmpCut(b *testing.B){
 h:=[]byte(clientHead)
 for b.Loop(){ cutLines(h,0,true) }
}
func BenchmarkTmpControl(b *testing.B){
 h:=bytes.Repeat([]byte{'x'},360)
 for b.Loop(){ firstControl(h) }
}
func BenchmarkTmpCopy(b *testing.B){
 h:=[]byte(clientHead); d:=make([]byte,0,512)
 for b.Loop(){ d=append(d[:0],h...) }
}
